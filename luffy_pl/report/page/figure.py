"""A figure of the page as data; page/charts.js draws it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from luffy_pl.report.cost import MEASURES, Measure, position
from luffy_pl.run_dir.read import RunHistory

MAX_BINS = 30


@dataclass(frozen=True)
class Line:
    """A line, or a set of bars.

    Args:
        x: phases of `run`, or values where `run` is None.
        low, high: ends of the interval at each x, None where there is none; empty without any.
        colour: lines of one run share it; None takes the next.
        dashed: of the expert, beside the policy's own line of the same run.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    run: str | None = None
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    colour: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """What is drawn, and what it says.

    Args:
        says: one or two sentences for somebody who does not know the quantity.
        x_label: of the axis; a figure over phases can be drawn over other measures.
        kind: lines, or bars side by side around each x, `width` wide.
    """

    title: str
    says: str
    x_label: str
    lines: tuple[Line, ...]
    kind: str = "lines"
    width: float = 0.0

    def content(self) -> dict[str, Any]:
        """As the page embeds it."""
        return asdict(self)


def figure(title: str, says: str, x_label: str, lines: Iterable[Line]) -> Figure | None:
    """The figure of the lines that have a point; None if none has one."""
    with_points = tuple(line for line in map(finite, lines) if line.x)
    return Figure(title, says, x_label, with_points) if with_points else None


def finite(line: Line) -> Line:
    """The line without points that are no numbers."""
    kept = [n for n, (x, y) in enumerate(zip(line.x, line.y, strict=True))
            if math.isfinite(x) and math.isfinite(y)]  # fmt: skip
    return Line(
        line.name, [line.x[n] for n in kept], [line.y[n] for n in kept], line.run,
        [line.low[n] for n in kept] if line.low else (),
        [line.high[n] for n in kept] if line.high else (),
        line.colour, line.dashed,
    )  # fmt: skip


def histogram(
    title: str, says: str, x_label: str, values: Mapping[str, Mapping[int, int]]
) -> Figure | None:
    """Number of values in each bin, for each named count of non-negative values; None if empty.

    Bins have a round width of at least 1, and start at a multiple of it.
    """
    everything = [value for of_name in values.values() for value in of_name]
    if not everything:
        return None
    width = bin_width(max(everything) - min(everything))
    first = math.floor(min(everything) / width)
    num_bins = math.floor(max(everything) / width) - first + 1
    middles = [(first + place) * width + width / 2 for place in range(num_bins)]
    lines = []
    for name, of_name in values.items():
        counts = [0] * num_bins
        for value, count in of_name.items():
            counts[math.floor(value / width) - first] += count
        lines.append(Line(name, middles, counts))
    return Figure(title, says, x_label, tuple(lines), kind="bars", width=width)


def bin_width(spread: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that needs at most MAX_BINS bins."""
    width = 1.0
    while spread / width > MAX_BINS:
        width *= 2.5 if f"{width:g}".startswith("2") else 2
    return width


def metric_line(run: RunHistory, metric: str, *, name: str, **style: Any) -> Line:
    """A metric of a run over its phases."""
    phases, values = run.series(metric)
    return Line(name, phases, values, run=run.name, **style)


def axes_of(runs: Sequence[RunHistory]) -> dict[str, dict[str, Any]]:
    """The measures that figures over phases can be drawn over: label, and place of each phase.

    A measure that no run has is left out. A phase that a run has no place for is null.
    """
    axes = {}
    for key, measure in MEASURES.items():
        places = {run.name: places_of(run, measure) for run in runs}
        if any(place for of_run in places.values() for place in of_run.values()):
            axes[key] = {"label": measure.label, "places": places}
    return axes


def places_of(run: RunHistory, measure: Measure) -> dict[int, float | None]:
    """The place of each phase that has a metric or an evaluation."""
    phases = sorted({*run.metrics, *(row["phase"] for row in run.evaluations)})
    return {phase: position(run, phase, measure) for phase in phases}
