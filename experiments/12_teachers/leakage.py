r"""How often does the policy say what only its teacher could see?

In this world nothing but the steps of a sum gives its answer, so an answer that the steps do not
give has come from elsewhere. Two shares of the rollouts of a phase, all sampled without any help:

    named: the box holds a number that is the result of none of the answer's own steps;
    unearned: the boxed number is right, and steps of the question are missing or wrong.

python experiments/12_teachers/leakage.py

reads the runs of the sweep, writes leakage.csv (a row per run and phase) and leakage.png here,
and shows the mean over the last phases of each run with its interval over seeds.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.run_dir.read import read_lines
from luffy_pl.sweep.interval import SeedMean, over_seeds

HERE = Path(__file__).parent
STEP = re.compile(r"(?:so|then|now|next)(\d+)([+-]\d)=(\d+)")
SWEEP = Path("outputs/sweeps/teachers_and_hints")
GROUPS = ("opd", "opsd", "rlsd", "luffy", "opsd_sometimes", "rlsd_sometimes")
SHARES = ("named", "unearned")
LAST = 5
"""Phases that the figure of a run is the mean of."""


def is_named(response: str, boxed: str | None) -> bool:
    """Whether the boxed number is the result of none of the steps."""
    return boxed is not None and boxed not in {result for _, _, result in STEP.findall(response)}


def is_unearned(question: str, response: str, boxed: str | None, gold: str) -> bool:
    """Whether the answer is right although its steps are not those of the question."""
    return boxed == gold and STEP.findall(response) != steps_of(question)


def steps_of(question: str) -> list[tuple[str, str, str]]:
    """Value, signed digit and result of each step of `27-6-9=?`."""
    start, *digits = re.findall(r"^\d+|[+-]\d", question)
    steps, value = [], int(start)
    for digit in digits:
        steps.append((str(value), digit, str(value + int(digit))))
        value += int(digit)
    return steps


def rows_of_run(run_dir: Path) -> Iterator[dict[str, Any]]:
    """One row per phase: its number, the rollouts, and the two shares."""
    for path in sorted((run_dir / "rollouts").glob("phase-*.jsonl")):
        lines = [line for line in read_lines(path) if line["source"] == "rollout"]
        found = dict.fromkeys(SHARES, 0)
        for line in lines:
            question = re.sub(r"<\w+>", "", line["prompt"])
            boxed, gold = line["verdict"]["extracted"], line["verdict"]["gold"]
            found["named"] += is_named(line["response"], boxed)
            found["unearned"] += is_unearned(question, line["response"], boxed, gold)
        shares = {name: round(count / len(lines), 4) for name, count in found.items()}
        yield {"phase": int(path.stem.rpartition("-")[2]), "answers": len(lines), **shares}


def rows_of_sweep(sweep: Path, groups: Iterable[str] = GROUPS) -> list[dict[str, Any]]:
    """Rows of the runs of some groups, in their order."""
    return [
        {"group": group, "seed": int(run_dir.name.rpartition("-seed")[2]), **row}
        for group in groups
        for run_dir in sorted(sweep.glob(f"{group}-seed*"))
        for row in rows_of_run(run_dir)
    ]


def at_the_end(rows: Iterable[dict[str, Any]], group: str, share: str) -> SeedMean:
    """Mean of a group's last phases, with its interval over seeds."""
    of_seed: dict[str, list[float]] = {}
    for row in rows:
        if row["group"] == group:
            of_seed.setdefault(str(row["seed"]), []).append(float(row[share]))
    return over_seeds([sum(values[-LAST:]) / LAST for values in of_seed.values()])


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Share of named answers by phase; the band goes from the smallest to the largest seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for group in dict.fromkeys(row["group"] for row in rows):
        by_phase: dict[int, list[float]] = {}
        for row in rows:
            if row["group"] == group:
                by_phase.setdefault(int(row["phase"]), []).append(100 * float(row["named"]))
        phases = sorted(by_phase)
        means = [sum(by_phase[phase]) / len(by_phase[phase]) for phase in phases]
        [line] = axis.plot(phases, means, label=group)
        ends = [[end(by_phase[phase]) for phase in phases] for end in (min, max)]
        axis.fill_between(phases, *ends, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.set_xlabel("phase")
    axis.set_ylabel("answers that no step gives (%)")
    axis.legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Write both files and show the shares."""
    rows = rows_of_sweep(SWEEP)
    with (HERE / "leakage.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, HERE / "leakage.png")
    for group in dict.fromkeys(row["group"] for row in rows):
        for share in SHARES:
            sys.stdout.write(f"{group} {share}: {at_the_end(rows, group, share)}\n")


if __name__ == "__main__":
    main()
