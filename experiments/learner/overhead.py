r"""Share of a phase that is neither sampling, nor scoring, nor training.

python experiments/learner/overhead.py outputs/gsm8k_smollm2
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from luffy_pl.run_dir.read import read_metrics

STAGES = ("generate", "score", "train")


def main() -> None:
    """Print seconds of each stage, medians over phases, and the share of the rest."""
    phases, _ = read_metrics(Path(sys.argv[1]) / "metrics.jsonl")
    rows = [row for row in phases.values() if "timing_s/phase" in row]
    seconds = {
        name: statistics.median(row[f"timing_s/{name}"] for row in rows)
        for name in (*STAGES, "sync", "phase")
    }
    rest = [
        1 - sum(row[f"timing_s/{name}"] for name in STAGES) / row["timing_s/phase"] for row in rows
    ]
    for name, value in seconds.items():
        sys.stdout.write(f"{name:<10}{value:8.2f} s\n")
    sys.stdout.write(f"rest      {statistics.median(rest):8.1%} of {len(rows)} phases\n")


if __name__ == "__main__":
    main()
