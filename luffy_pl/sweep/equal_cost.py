"""Groups compared where each has spent at most what the cheapest run of the sweep spent in all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from luffy_pl.evaluation.tables import percent, plain_table
from luffy_pl.report.cost import short
from luffy_pl.sweep.interval import SeedMean, over_seeds
from luffy_pl.sweep.results import ACCURACY, COSTS, CURVES, check_numbers, read_csv
from luffy_pl.sweep.summary import shown_interval

NAMES = {"generated_tokens": "generated tokens", "model_flops": "FLOPs"}
"""What a cost is called in a table."""
Row = Mapping[str, str]


@dataclass(frozen=True)
class EqualCost:
    """Accuracies of each group and benchmark at one budget.

    cost: a column of curves.csv.
    budget: the smallest total above 0 of a run; tokens, or FLOPs.
    accuracies: by group and benchmark, shares, over seeds.
    """

    cost: str
    budget: float
    accuracies: Mapping[tuple[str, str], SeedMean]

    @property
    def title(self) -> str:
        """A line for a table."""
        return (
            f"accuracy in percent at {short(self.budget)} {NAMES[self.cost]}, "
            "the total of the cheapest run that spent any"
        )


def at_equal_cost(folder: Path) -> list[EqualCost]:
    """One entry per cost of which every run kept a ledger, if runs were evaluated on the way.

    The accuracy of a run is that of its last evaluation within the budget; a run without one, and
    so its whole group, is left out. A run that only imitates generates no tokens, so its accuracy
    at equal tokens is that of its last evaluation.
    """
    path = folder / CURVES
    rows = read_csv(path, needs=("cell", "group", "phase"))
    benchmarks = [name for row in rows[:1] for name in row if name.startswith(ACCURACY)]
    check_numbers(path, rows, ("phase", *COSTS, *benchmarks))
    cells: dict[str, list[Row]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row)
    found = []
    for cost in COSTS:
        totals = [spent(of_cell, cost) for of_cell in cells.values()]
        paid = [total for total in totals if total]
        if benchmarks and paid and None not in totals:
            budget = min(paid)
            if accuracies := group_accuracies(cells, benchmarks, cost, budget):
                found.append(EqualCost(cost, budget, accuracies))
    return found


def spent(rows: Sequence[Row], cost: str) -> float | None:
    """What a run has spent in all; None if it kept no ledger."""
    return max((float(row[cost]) for row in rows if row.get(cost)), default=None)


def group_accuracies(
    cells: Mapping[str, Sequence[Row]], benchmarks: Sequence[str], cost: str, budget: float
) -> dict[tuple[str, str], SeedMean]:
    """Mean over seeds of each group and benchmark."""
    collected: dict[tuple[str, str], list[float]] = {}
    for rows in cells.values():
        for name in benchmarks:
            key = rows[0]["group"], name.removeprefix(ACCURACY)
            collected.setdefault(key, []).append(within(rows, name, cost, budget))
    return {
        key: over_seeds(values)
        for key, values in collected.items()
        if not any(map(math.isnan, values))
    }


def within(rows: Sequence[Row], name: str, cost: str, budget: float) -> float:
    """The last accuracy that cost no more than the budget; NaN if there is none."""
    evaluated = [row for row in rows if row[name] and float(row[cost]) <= budget]
    last = max(evaluated, key=lambda row: int(row["phase"]), default=None)
    return math.nan if last is None else float(last[name])


def equal_cost_table(found: EqualCost) -> Table:
    """One line per group and benchmark."""
    table = plain_table(found.title, ["group", "benchmark"], ["seeds", "accuracy", "interval"])
    last = None
    for (group, benchmark), mean in found.accuracies.items():
        if last not in (None, group):
            table.add_section()
        table.add_row(
            escape(group) if group != last else "",
            escape(benchmark),
            str(mean.num_seeds),
            percent(mean.value),
            shown_interval(mean),
        )
        last = group
    return table
