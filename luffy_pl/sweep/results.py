"""`results.csv` and `curves.csv`: all that tables, figures and pages are made from.

results.csv, one row per cell and benchmark: cell, group, the recipe where one has a name (an
axis may have its place), a column per axis, seed, benchmark; n problems, k answers each; accuracy
before and after, with the 95% interval of `after` over problems; the temperature they were sampled
at (0 is greedy), pass@k, and mean tokens of right and of wrong answers (empty where there are
none); and for each logged entropy (nats) the mean of its first and last three phases.

curves.csv, one row per cell and phase: cell, group, seed, phase; reward of rollouts, entropy of
rollouts (nats per token), length of rollouts (tokens), all three empty where a phase only imitates;
tokens generated and FLOPs since the start; and for each benchmark, `accuracy/NAME`, after the
phases that were followed by an evaluation.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.errors import ConfigError, DataError, StorageError
from luffy_pl.evaluation.results import AVERAGES
from luffy_pl.run_dir.fields import EVALUATION_ROW
from luffy_pl.run_dir.read import RunHistory, read_lines, read_metrics, read_setting
from luffy_pl.sweep.grid import Grid
from luffy_pl.sweep.plan import Cell
from luffy_pl.sweep.values import check_names

FORMULA = ("=", "+", "-", "@", "\t", "\r")
RESULTS, CURVES = "results.csv", "curves.csv"
BEFORE_AXES, AFTER_AXES = ("cell", "group"), ("seed", "benchmark")
RECIPE = "recipe"
NUMBERS = ("n", "k", "before", "after", "low", "high")
ANSWERS = {
    "sampling_temperature": "temperature",
    "pass": "pass",
    "tokens_correct": "tokens_correct",
    "tokens_incorrect": "tokens_incorrect",
}
"""Columns about the answers, and what rows of an evaluation call them."""
SERIES = {
    "reward": "on_off_metrics/on_score",
    "entropy": "entropy/rollout_nats",
    "length": "on_off_metrics/on_response_length_mean",
}
COSTS = {"generated_tokens": "ledger/generated_tokens", "model_flops": "ledger/model_flops"}
ACCURACY = "accuracy/"
ENDS = 3
"""Phases at each end that an entropy is averaged over."""

ResultRow = dict[str, Any]


def write_tables(grid: Grid, cells: Iterable[Cell], folder: Path) -> None:
    """Read the runs of these cells and write both files."""
    results: list[ResultRow] = []
    curves: list[ResultRow] = []
    for cell in cells:
        run = read_cell(cell)
        results += result_rows(grid, cell, run)
        curves += curve_rows(grid, cell, run)
    entropies = sorted({name for row in results for name in row if name.startswith("entropy/")})
    folder.mkdir(parents=True, exist_ok=True)
    recipes = [RECIPE] if any(RECIPE in row for row in results) else []
    names = dict.fromkeys((*BEFORE_AXES, *recipes, *grid.axes))
    head = (*names, *AFTER_AXES, *NUMBERS, *ANSWERS, *entropies)
    write_csv(folder / RESULTS, head, results)
    accuracies = dict.fromkeys(name for row in curves for name in row if name.startswith(ACCURACY))
    head = ("cell", "group", "seed", "phase", *SERIES, *COSTS, *accuracies)
    write_csv(folder / CURVES, head, curves)


def check_axes(grid: Grid) -> None:
    """An axis is a column of its own."""
    for axis in grid.axes:
        if axis in (*BEFORE_AXES, *AFTER_AXES, *NUMBERS, *ANSWERS):
            raise ConfigError(f"{grid.path}: axes", "the results have a column of this name",
                              value=axis, fix="rename the axis")  # fmt: skip


def read_cell(cell: Cell) -> RunHistory:
    """What the cell's run left; fit logs metrics, validate and test do not."""
    command = cell.arguments[0]
    metrics_file = cell.run_dir / "metrics.jsonl"
    rows_file = cell.run_dir / ("evaluation.jsonl" if command == "fit" else f"{command}.jsonl")
    if not metrics_file.exists() and not rows_file.exists():
        raise StorageError(str(cell.run_dir), "the cell has finished but its results are gone",
                           fix="put the folder back, or start with another run_dir")  # fmt: skip
    metrics = read_metrics(metrics_file)[0] if metrics_file.exists() else {}
    lines = read_lines(rows_file, EVALUATION_ROW) if rows_file.exists() else []
    rows = {(row["phase"], row["benchmark"]): row for row in lines}
    recipe = read_setting(cell.run_dir, RECIPE)
    return RunHistory(cell.name, None, metrics, list(rows.values()), recipe)


def result_rows(grid: Grid, cell: Cell, run: RunHistory) -> Iterator[ResultRow]:
    """One row per benchmark of the last evaluation."""
    last = run.evaluation(run.last_phase)
    check_names(grid.metrics, tuple(row["benchmark"] for row in last), f"{grid.path}: metrics")
    before = {row["benchmark"]: row["avg"] for row in run.evaluation(0)} if run.last_phase else {}
    for row in last:
        if grid.metrics and row["benchmark"] not in grid.metrics:
            continue
        yield {
            **cell_columns(cell),
            **({RECIPE: run.recipe} if run.recipe else {}),
            **cell.labels,
            "benchmark": row["benchmark"],
            "n": row["n"],
            "k": row.get("k", ""),
            "before": rounded(before.get(row["benchmark"])),
            "after": rounded(row["avg"]),
            "low": rounded(row["low"]),
            "high": rounded(row["high"]),
            **{column: rounded(row.get(name)) for column, name in ANSWERS.items()},
            **entropy_ends(run),
        }


def curve_rows(grid: Grid, cell: Cell, run: RunHistory) -> Iterator[ResultRow]:
    """One row per phase that trained; one that only imitates has its costs, and no rollouts."""
    columns = {**SERIES, **COSTS}
    for phase, logged in sorted(run.metrics.items()):
        values = {name: rounded(logged.get(metric)) for name, metric in columns.items()}
        if any(value != "" for value in values.values()):
            found = accuracies_after(run, phase, grid.metrics)
            yield {**cell_columns(cell), "phase": phase, **values, **found}


def accuracies_after(run: RunHistory, phase: int, metrics: Sequence[str]) -> ResultRow:
    """Accuracy of each benchmark, and of no average over benchmarks, after one phase."""
    return {
        f"{ACCURACY}{row['benchmark']}": rounded(row["avg"])
        for row in run.evaluation(phase)
        if row["benchmark"] not in AVERAGES.values()
        and (not metrics or row["benchmark"] in metrics)
    }


def cell_columns(cell: Cell) -> ResultRow:
    """The columns that say which cell a row is of."""
    return {"cell": cell.name, "group": cell.group, "seed": cell.seed}


def entropy_ends(run: RunHistory) -> ResultRow:
    """First and last of every logged entropy."""
    names = sorted({n for row in run.metrics.values() for n in row if n.startswith("entropy/")})
    ends = {}
    for name in names:
        _, values = run.series(name)
        ends[f"{name}_first"] = rounded(average(values[:ENDS]))
        ends[f"{name}_last"] = rounded(average(values[-ENDS:]))
    return ends


def average(values: Sequence[float]) -> float:
    """Mean of at least one value."""
    return sum(values) / len(values)


def rounded(value: float | None) -> float | str:
    """Four decimals; empty where there is no number."""
    return "" if value is None or math.isnan(value) else round(value, 4)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write beside, then rename: a table that exists is whole."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, head, restval="")
        writer.writeheader()
        writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
    partial.replace(path)


def inert(value: object) -> object:
    """The value; a text that a spreadsheet would compute gets the apostrophe that makes it text."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def read_csv(
    path: Path, *, needs: Iterable[str], numbers: Iterable[str] = ()
) -> list[dict[str, str]]:
    """The rows as texts, after a check that the columns are there.

    Args:
        numbers: columns whose values are numbers, or empty.
    """
    if not path.exists():
        raise StorageError(str(path), "does not exist", fix="give the folder that --out named")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := set(needs) - set(reader.fieldnames or ()):
            raise DataError(str(path), "lacks a column", value=", ".join(sorted(missing)),
                            fix="write it again: luffy-pl sweep GRID --summarize")  # fmt: skip
        rows = list(reader)
    check_numbers(path, rows, numbers)
    return rows


def check_numbers(path: Path, rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> None:
    """Refuse a value of these columns that is neither a number nor empty."""
    names = tuple(columns)
    for number, row in enumerate(rows, start=2):
        for column in names:
            if not is_number_or_empty(row.get(column)):
                raise DataError(f"{path}:{number}", f"{column} is no number", value=row[column],
                                fix="write it again: luffy-pl sweep GRID --summarize")  # fmt: skip


def is_number_or_empty(value: str | None) -> bool:
    """Whether a cell of a table can be computed with; a table may lack the column."""
    try:
        return not value or math.isfinite(float(value))
    except (ValueError, TypeError):
        return False
