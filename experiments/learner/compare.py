r"""The learner beside another trainer, on one workload, in turns.

    python experiments/learner/compare.py --peer path/to/trl_learner.py -- --steps 5

Each script takes the arguments of `luffy-pl bench learner` (those after --) and ends with one line
of JSON with the same keys. Every round runs each once, in its own process with one OpenMP thread;
medians over rounds are printed, with how often the peer's CPU time and memory go into ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

KEYS = ("step_cpu_s", "step_s", "peak_rss_mib")
TOLERANCE = 1e-3


def run(command: Sequence[str]) -> dict[str, Any]:
    """The last line of what a script prints, as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_same(ours: dict[str, Any], peer: dict[str, Any]) -> None:
    """Stop where the two did not compute the same: real tokens, loss, gradient norm."""
    if ours["real_tokens"] != peer["real_tokens"]:
        sys.exit(f"other work: {ours['real_tokens']} and {peer['real_tokens']} tokens")
    for key in ("loss", "grad_norm"):
        one, other = ours[key][0], float(peer[key][0])
        # A peer may round what it logs to four figures.
        if abs(one - other) > TOLERANCE * max(abs(one), abs(other)):
            sys.exit(f"{key} differs: {one} and {other}")


def main() -> None:
    """Run in turns and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="script of the other trainer")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has its package")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("arguments", nargs="*", help="for both, after --")
    args = parser.parse_args()
    own = [sys.executable, "-m", "luffy_pl.cli", "bench", "learner", *args.arguments]
    peer = [args.python, args.peer, *args.arguments]
    rounds = []
    for _ in range(args.rounds):
        rounds.append((run(own), run(peer)))
        check_same(*rounds[-1])
    write = sys.stdout.write
    write(f"{'':14}{rounds[0][0]['side']:>12}{rounds[0][1]['side']:>12}{'ratio':>8}\n")
    for key in KEYS:
        one, other = (statistics.median(pair[side][key] for pair in rounds) for side in (0, 1))
        write(f"{key:14}{one:12.2f}{other:12.2f}{other / one:8.2f}\n")
    fraction = statistics.median(ours["gemm_fraction"] for ours, _ in rounds)
    write(f"{'gemm_fraction':14}{fraction:12.2f}\n")


if __name__ == "__main__":
    main()
