"""Runs to results.csv and figure.png; the figure is made from the runs of seed 0."""

import csv
import sys
from pathlib import Path

from luffy_pl.report.curves import plot_runs
from luffy_pl.run_dir.read import read_run

HERE = Path(__file__).parent
METHODS = ("luffy", "no_shaping", "clip_off_policy", "on_policy")
ENTROPIES = ("entropy/rollout_nats", "entropy/opener_nats")


def ends(values):
    """Mean of the first three and of the last three phases."""
    return round(sum(values[:3]) / 3, 4), round(sum(values[-3:]) / 3, 4)


def rows(folder):
    """One row per run and benchmark."""
    for method in METHODS:
        for path in sorted(folder.glob(f"{method}_*/")):
            run = read_run(path)
            before = {row["benchmark"]: row["avg"] for row in run.evaluation(0)}
            entropy = {}
            for name in ENTROPIES:
                entropy[f"{name}_first"], entropy[f"{name}_last"] = ends(run.series(name)[1])
            for row in run.evaluation(run.last_phase):
                yield {
                    "method": method,
                    "seed": path.name.rsplit("_", 1)[1],
                    "benchmark": row["benchmark"],
                    "n": row["n"],
                    "k": row.get("k", ""),
                    "before": round(before[row["benchmark"]], 4),
                    "after": round(row["avg"], 4),
                    "low": round(row["low"], 4),
                    "high": round(row["high"], 4),
                    **entropy,
                }


def main(folder):
    """Write both files beside this script."""
    table = list(rows(folder))
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    plot_runs([read_run(folder / f"{method}_0") for method in METHODS], HERE / "figure.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
