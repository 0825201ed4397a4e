"""Results as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

LENGTHS_FROM = 100
"""Columns of a terminal that also shows the lengths of right and of wrong answers."""
GAP, NARROW_GAP = (0, 1), 0
UNLIMITED = 10_000


class FittingTable(Table):
    """A table whose columns move together where a narrow terminal would break their words."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table with the widest gap that fits."""
        self.padding = GAP
        wanted = Measurement.get(console, options.update(max_width=UNLIMITED), self).maximum
        if wanted > options.max_width:
            self.padding = NARROW_GAP
        yield from super().__rich_console__(console, options)


def results_table(rows: Sequence[Mapping[str, Any]], *, title: str, width: int = 80) -> Table:
    """One line per benchmark: accuracy with its interval, shares without answer and cut off.

    tokens is the mean length of an answer; where `width` allows it, right and wrong are that of
    right and of wrong ones.
    """
    lengths = {"tokens": "tokens"}
    if width >= LENGTHS_FROM:
        lengths |= {"right": "tokens_correct", "wrong": "tokens_incorrect"}
    table = plain_table(title, ["benchmark"], [
        "n", "k", "avg@k", "95% interval", "pass@k", "maj@k", "none", "cut", *lengths,
    ])  # fmt: skip
    for row in rows:
        table.add_row(
            escape(row["benchmark"]),
            str(row["n"]),
            str(row.get("k", "")),
            percent(row["avg"]),
            interval(row),
            percent(row.get("pass")),
            percent(row.get("maj")),
            percent(row.get("no_answer")),
            percent(row.get("truncated")),
            *(length(row.get(name)) for name in lengths.values()),
        )
    return table


def extra_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> Table | None:
    """A line for each metric that a benchmark names beside the usual ones; None without any."""
    table = plain_table(title, ["benchmark", "metric"], ["value", "95% interval"])
    for row in rows:
        for name, found in row.get("metrics", {}).items():
            ends = f"[{found['low']:.3f}, {found['high']:.3f}]"
            table.add_row(escape(row["benchmark"]), escape(name), f"{found['value']:.3f}", ends)
    return table if table.row_count else None


def length(tokens: float | None) -> str:
    """As a table shows it."""
    return "" if tokens is None or math.isnan(tokens) else f"{tokens:.1f}"


def plain_table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table that fits 80 columns: names on the left, numbers on the right.

    Title and headings are shown as they are; names in the rows are the caller's to escape, who may
    want a style.
    """
    table = FittingTable(
        title=escape(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in names:
        table.add_column(escape(name), overflow="fold")
    for number in numbers:
        table.add_column(escape(number), justify="right", no_wrap=True)
    return table


def percent(share: float | None) -> str:
    """As a table shows it; empty where nothing could be graded."""
    return "" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def interval(row: Mapping[str, Any]) -> str:
    """Lower and upper end."""
    low, high = percent(row["low"]), percent(row["high"])
    return f"[{low}, {high}]" if low else ""
