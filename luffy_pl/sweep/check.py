"""Every cell's configuration, composed before the first one runs."""

from __future__ import annotations

from collections.abc import Iterable

from luffy_pl.bundled import resolve_configs
from luffy_pl.errors import LuffyError
from luffy_pl.evaluation.results import AVERAGES
from luffy_pl.registry import PLUGIN, take_option
from luffy_pl.run.composition import compose
from luffy_pl.sweep.grid import Grid
from luffy_pl.sweep.plan import Cell
from luffy_pl.sweep.values import check_names


def check_cells(cells: Iterable[Cell], grid: Grid) -> None:
    """Compose one cell of each group (seeds are integers already); an error names the cell."""
    first = {cell.group: cell for cell in reversed(list(cells))}
    for cell in reversed(first.values()):
        try:
            # The plugins are those of this very process.
            arguments, _ = take_option(cell.arguments, PLUGIN)
            benchmarks = compose(resolve_configs(arguments)).data.benchmarks
            known = (*(benchmark.name for benchmark in benchmarks), *AVERAGES.values())
            check_names(grid.metrics, known, f"{grid.path}: metrics of cell {cell.name}")
        except LuffyError as error:
            raise type(error)(
                f"cell {cell.name}: {error.where}", error.what, value=error.value, fix=error.fix
            ) from error
