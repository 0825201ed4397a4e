"""Groups of seeds compared: means and intervals, from the two tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from luffy_pl.evaluation.tables import percent, plain_table
from luffy_pl.sweep.interval import SeedMean, over_seeds
from luffy_pl.sweep.results import (
    AFTER_AXES,
    BEFORE_AXES,
    CURVES,
    NUMBERS,
    RECIPE,
    RESULTS,
    SERIES,
    average,
    read_csv,
)

TITLE = "final accuracy in percent: mean over seeds, 95% t interval over seeds"


@dataclass(frozen=True)
class GroupResult:
    """All seeds of one group on one benchmark; accuracies are shares."""

    group: str
    benchmark: str
    n: str
    k: str
    before: float | None
    after: SeedMean
    recipe: str = ""


@dataclass(frozen=True)
class Curve:
    """One quantity of one group: mean, smallest and largest over its seeds, by phase."""

    phases: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def read_groups(folder: Path) -> list[GroupResult]:
    """One entry per group and benchmark, in the order of results.csv."""
    collected: dict[tuple[str, str], list[dict[str, str]]] = {}
    needs = (*BEFORE_AXES, *AFTER_AXES, *NUMBERS)
    for row in read_csv(folder / RESULTS, needs=needs, numbers=("before", "after")):
        if row["after"]:
            collected.setdefault((row["group"], row["benchmark"]), []).append(row)
    return [
        GroupResult(
            group,
            benchmark,
            n=rows[0]["n"],
            k=rows[0]["k"],
            before=mean_or_none([row["before"] for row in rows]),
            after=over_seeds([float(row["after"]) for row in rows]),
            recipe=rows[0].get(RECIPE) or "",
        )
        for (group, benchmark), rows in collected.items()
    ]


def mean_or_none(values: Sequence[str]) -> float | None:
    """None if one is empty."""
    return average([float(value) for value in values]) if all(values) else None


def read_curves(folder: Path) -> dict[str, dict[str, Curve]]:
    """Group -> quantity -> curve, over the phases that all seeds of the group have."""
    collected: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    needs, numbers = ("cell", "group", "phase", *SERIES), ("phase", *SERIES)
    for row in read_csv(folder / CURVES, needs=needs, numbers=numbers):
        for quantity in SERIES:
            of_cells = collected.setdefault(row["group"], {}).setdefault(quantity, {})
            values = of_cells.setdefault(row["cell"], {})
            if row[quantity]:
                values[int(row["phase"])] = float(row[quantity])
    return {
        group: {quantity: curve(list(cells.values())) for quantity, cells in quantities.items()}
        for group, quantities in collected.items()
    }


def curve(seeds: Sequence[dict[int, float]]) -> Curve:
    """Over at least one seed."""
    phases = sorted(set(seeds[0]).intersection(*seeds))
    values = [[seed[phase] for seed in seeds] for phase in phases]
    return Curve(
        tuple(phases), tuple(map(average, values)), tuple(map(min, values)), tuple(map(max, values))
    )


def summary_table(results: Sequence[GroupResult]) -> Table:
    """One line per group and benchmark."""
    has_recipes = name_recipes(results)
    table = plain_table(
        TITLE,
        ["group", *(["recipe"] if has_recipes else []), "benchmark"],
        ["n", "k", "seeds", "before", "after", "interval"],
    )
    last = None
    for result in results:
        if last not in (None, result.group):
            table.add_section()
        table.add_row(
            escape(result.group) if result.group != last else "",
            *([escape(result.recipe) if result.group != last else ""] if has_recipes else []),
            escape(result.benchmark),
            result.n,
            result.k,
            str(result.after.num_seeds),
            percent(result.before),
            percent(result.after.value),
            shown_interval(result.after),
        )
        last = result.group
    return table


def name_recipes(results: Sequence[GroupResult]) -> bool:
    """Whether the recipes say more than the groups, which may be called by them."""
    return any(result.recipe not in ("", result.group) for result in results)


def shown_interval(after: SeedMean) -> str:
    """Both ends, or why there are none."""
    if after.low is None or after.high is None:
        return "one seed" if after.num_seeds == 1 else "seeds equal"
    return f"[{percent(after.low)}, {percent(after.high)}]"
