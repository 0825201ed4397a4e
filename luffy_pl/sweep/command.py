"""`luffy-pl sweep GRID`: plan, run, continue, summarise."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from luffy_pl.commands.parser import CommandParser
from luffy_pl.commands.program import program
from luffy_pl.errors import ConfigError, LuffyError
from luffy_pl.process.folder_lock import alone
from luffy_pl.sweep import runner
from luffy_pl.sweep.answer_figures import plot_answers, read_sampled
from luffy_pl.sweep.equal_cost import at_equal_cost, equal_cost_table
from luffy_pl.sweep.figure import FIGURE, plot_sweep
from luffy_pl.sweep.grid import Grid, read_grid
from luffy_pl.sweep.page import PAGE, Links, write_run_pages, write_sweep_page
from luffy_pl.sweep.plan import Cell, make_cells
from luffy_pl.sweep.results import CURVES, RESULTS, check_axes, write_tables
from luffy_pl.sweep.state import CellStatus, check_unchanged, how_to_go_on, read_state
from luffy_pl.sweep.summary import read_curves, read_groups, summary_table


def main(argv: Sequence[str]) -> int:
    """Run a sweep, or one part of it."""
    args = parse_arguments(argv)
    if args.figures is not None:
        show_results(args.figures.resolve().name, args.figures)
        return 0
    grid = read_grid(args.grid)
    check_axes(grid)
    cells = make_cells(grid, args.allow_import)
    out = args.out or args.grid.parent
    if args.summarize:
        summarize(grid, cells, out)
        return 0
    if args.dry_run:
        plan(grid, cells, max_parallel=args.max_parallel, with_commands=True)
        return 0
    with alone(grid.run_dir, "sweep"):
        run(grid, cells, out, launcher=args.launcher, max_parallel=args.max_parallel)
    return 0


def run(grid: Grid, cells: Sequence[Cell], out: Path, *, launcher: str, max_parallel: int) -> None:
    """Run what is left to run, summarise, and name what did not finish."""
    to_run = plan(grid, cells, max_parallel=max_parallel, with_commands=False)
    failed = runner.run_cells(grid, to_run, launcher=launcher, max_parallel=max_parallel)
    summarize(grid, cells, out)
    if failed:
        raise LuffyError(
            "sweep",
            f"{len(failed)} of {len(cells)} cells did not finish: {', '.join(failed)}",
            fix=f"read their {runner.CONSOLE}; the same command tries them again, and no others",
        )


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = CommandParser(
        prog="luffy-pl sweep",
        description="Run every cell of a grid; the same command continues a sweep that was ended.",
    )
    parser.add_argument("grid", nargs="?", type=Path, help="experiments/<name>/grid.yaml")
    parser.add_argument(
        "--dry_run", action="store_true", help="check and show the cells and the cost"
    )
    parser.add_argument("--max_parallel", type=int, default=1, help="cells at a time (1)")
    parser.add_argument("--launcher", choices=runner.LAUNCHERS, default="local")
    parser.add_argument("--allow_import", action="append", default=[], metavar="PACKAGE",
                        help="let the configurations of the cells name classes of it")  # fmt: skip
    parser.add_argument("--summarize", action="store_true", help="only write tables and figures")
    parser.add_argument("--out", type=Path, help="folder for them (that of the grid)")
    parser.add_argument("--figures", type=Path, metavar="DIR",
                        help="only draw again, from results.csv and curves.csv in DIR")  # fmt: skip
    args = parser.parse_args(argv)
    if (args.grid is None) == (args.figures is None):
        raise ConfigError("sweep", "takes a grid file, or --figures DIR",
                          fix="luffy-pl sweep experiments/<name>/grid.yaml")  # fmt: skip
    if args.max_parallel < 1:
        raise ConfigError("--max_parallel", "must be at least 1", value=args.max_parallel,
                          fix="raise it")  # fmt: skip
    return args


def plan(
    grid: Grid, cells: Sequence[Cell], *, max_parallel: int, with_commands: bool
) -> list[Cell]:
    """Check all cells, print what is to be done and its cost; returns the cells to run."""
    state = read_state(grid.run_dir)
    check_unchanged(cells, state)
    to_run = [cell for cell in cells if not is_finished(state.get(cell.name))]
    if to_run:
        # Imports torch and Lightning, which a summary does without.
        from luffy_pl.sweep.check import check_cells

        check_cells(to_run, grid)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for cell in cells:
        status = state.get(cell.name)
        console.print(f"{cell.name:<40} {status.event if status else 'new'}")
        if with_commands and not is_finished(status):
            words = (*cell.arguments, *how_to_go_on(cell, status))
            console.print(f"    {program()} {shlex.join(words)}")
    console.print(cost(grid, state, len(cells), len(to_run), max_parallel))
    return to_run


def cost(
    grid: Grid, state: Mapping[str, CellStatus], num_cells: int, num_to_run: int, max_parallel: int
) -> str:
    """One line: how many cells, how long each, how long in all."""
    line = f"{grid.name}: {num_cells} cells, {num_cells - num_to_run} finished, {num_to_run} to run"
    seconds = runner.seconds_per_cell(grid, state)
    if seconds is None:
        return f"{line}; the time of one is unknown (minutes_per_cell)"
    total = runner.duration(runner.total_seconds(num_to_run, seconds, max_parallel))
    return f"{line}; {runner.duration(seconds)} each, {total} in all with {max_parallel} at a time"


def is_finished(status: CellStatus | None) -> bool:
    """Whether there is nothing left to do."""
    return status is not None and status.event == "finished"


def summarize(grid: Grid, cells: Sequence[Cell], out: Path) -> None:
    """Tables, figure and page of the finished cells; the others are named."""
    state = read_state(grid.run_dir)
    check_unchanged(cells, state)
    finished = [cell for cell in cells if is_finished(state.get(cell.name))]
    if not finished:
        runner.say(f"{grid.name}: no cell has finished, so there is nothing to summarise")
        return
    write_tables(grid, finished, out)
    show_results(grid.name, out, write_run_pages(finished, out))
    if missing := [cell.name for cell in cells if cell not in finished]:
        runner.say(f"not in the summary: {', '.join(missing)}")


def show_results(name: str, folder: Path, links: Links | None = None) -> None:
    """Table, figures and page, from the two tables in `folder`."""
    results = read_groups(folder)
    plot_sweep(results, read_curves(folder), folder / FIGURE)
    figures = [folder / FIGURE, *plot_answers(read_sampled(folder), folder)]
    equal_costs = at_equal_cost(folder)
    write_sweep_page(name, results, figures, folder / PAGE, links, equal_costs)
    for table in (summary_table(results), *map(equal_cost_table, equal_costs)):
        Console().print(table)
    names = [RESULTS, CURVES, *(figure.name for figure in figures), PAGE]
    runner.say(f"written: {' '.join(str(folder / name) for name in names)}")
