r"""What a phase costs when it grows: peak memory and time per token at a fixed token budget.

    python experiments/learner/growth.py

One process per size of `luffy-pl bench learner`, which differ in the number of prompts alone; the
micro-batch holds the same tokens in all. The last column is the time per token beside that of the
first row with as many tokens as a micro-batch holds.
"""

from __future__ import annotations

import json
import subprocess
import sys

PROMPTS = (1, 4, 8, 32)
ARGUMENTS = (
    "--vocab", "2000", "--hidden", "128", "--layers", "2", "--max-len", "512",
    "--micro-rows", "2", "--steps", "3",
)  # fmt: skip


def main() -> None:
    """Print one line per size."""
    write = sys.stdout.write
    write(f"{'rows':>6}{'tokens':>9}{'peak MiB':>10}{'CPU us/token':>14}{'beside first':>14}\n")
    first = 0.0
    for prompts in PROMPTS:
        command = [sys.executable, "-m", "luffy_pl.cli", "bench", "learner", *ARGUMENTS]
        command += ["--prompts", str(prompts)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)
        each_us = 1e6 * found["step_cpu_s"] / found["real_tokens"]
        first = first or each_us
        write(
            f"{8 * prompts:6d}{found['real_tokens']:9d}{found['peak_rss_mib']:10d}"
            f"{each_us:14.1f}{each_us / first:14.2f}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
