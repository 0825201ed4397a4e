r"""Whole phases beside another trainer, in three regimes, in turns.

    python experiments/learner/phases.py --peer path/to/trl_phase.py [--python ITS_PYTHON]

    miniature: the bundled model, 16 prompts x 8 short answers
    smollm2:   SmolLM2-135M-Instruct on GSM8K, 2 prompts x 8 answers of at most 128 tokens
    long:      4 layers with 32,000 words and random weights, 16 prompts x 8 answers of at most 512
               tokens, a third of that on average

Each script takes the arguments of `luffy-pl bench phase`, the peer all but --engine, and ends with
one line of JSON with the same keys. Every run is a process of its own with one OpenMP thread. What
it found is written to stderr at once; the table of medians over rounds comes at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compare import run
from random_model import write_prompts, write_random_model

from luffy_pl.bundled import resolve

KEYS = ("phase_s", "phase_cpu_s", "peak_rss_mib", "mean_tokens")
MINIATURE = ("--prompts", "16", "--group", "8", "--max-new", "48", "--phases", "12")
SMOLLM2 = ("--prompts", "2", "--group", "8", "--max-new", "128", "--phases", "5", "--anywhere")
LONG = (
    "--prompts", "16", "--group", "8", "--max-new", "512", "--phases", "4", "--steps", "4",
    "--anywhere",
)  # fmt: skip
NUM_WORDS = 32000


def arguments_of(regime: str, args: argparse.Namespace, folder: Path) -> list[str]:
    """Model, data and sizes of a regime."""
    match regime:
        case "miniature":
            model, data, sizes = resolve("bundled:base"), resolve("bundled:train.jsonl"), MINIATURE
        case "smollm2":
            model, data, sizes = args.smollm2, args.gsm8k, SMOLLM2
        case _:
            model, data, sizes = str(folder / "model"), str(folder / "rows.jsonl"), LONG
            write_random_model(Path(model), vocab=NUM_WORDS, mean_tokens=170)
            write_prompts(Path(data), vocab=NUM_WORDS, num_prompts=16 * 6)
    return ["--model", model, "--data", data, *sizes]


def runs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Regime, side and what was found, of every run."""
    bench = [sys.executable, "-m", "luffy_pl.cli", "bench", "phase"]
    for regime in args.regimes:
        arguments = arguments_of(regime, args, folder)
        sides = {engine: [*bench, "--engine", engine] for engine in args.engines}
        if args.peer:
            sides["peer"] = [args.python, args.peer]
        for _ in range(args.rounds):
            for side, command in sides.items():
                found = run([*command, *arguments])
                sys.stderr.write(f"{json.dumps({'regime': regime, 'run': side, **found})}\n")
                yield regime, side, found


def table(found: Sequence[tuple[str, str, dict[str, Any]]]) -> Iterator[str]:
    """Medians by regime and side, and how often ours go into the peer's."""
    for regime, side in dict.fromkeys((regime, side) for regime, side, _ in found):
        of_side = medians(found, regime, side)
        peer = medians(found, regime, "peer")
        cells = [f"{regime:<11}{side:<6}"]
        for key in KEYS:
            ratio = f" ({peer[key] / of_side[key]:.2f})" if peer and side != "peer" else ""
            cells.append(f"{key} {of_side[key]:.2f}{ratio}")
        yield "  ".join(cells) + "\n"


def medians(
    found: Sequence[tuple[str, str, dict[str, Any]]], regime: str, side: str
) -> dict[str, float]:
    """Each figure as its median over the rounds; empty without a run."""
    own = [one for name, of, one in found if (name, of) == (regime, side)]
    return {key: statistics.median(one[key] for one in own) for key in KEYS if own}


def main() -> None:
    """Run in turns and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="script of the other trainer; without one ours run alone")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has its package")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--regimes", nargs="+", default=["miniature", "smollm2", "long"])
    parser.add_argument("--engines", nargs="+", default=["hf", "vllm"], help="of luffy-pl")
    parser.add_argument("--smollm2", default="outputs/models/smollm2-135m", help="model folder")
    parser.add_argument("--gsm8k", default="data/gsm8k/train.jsonl", help="questions and answers")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(runs(args, Path(folder)))
    sys.stdout.writelines(table(found))


if __name__ == "__main__":
    main()
