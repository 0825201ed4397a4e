"""Geometry of the page's figures; the template draws it as SVG.

Units: x and y of a chart are pixels of its viewBox, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 338, 10, 182
BINS_PER_TICK = 5
MAX_DOTS = 40
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its pixel and its number."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """Numbers from `low` to `high` laid over pixels from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float
    ticks: tuple[Tick, ...] = ()

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 2)


@dataclass(frozen=True)
class ChartLine:
    """One series: `path` for a polyline, `dots` with what they say, `bars` of an interval."""

    name: str
    style: int
    path: str
    dots: tuple[tuple[float, float, str], ...]
    bars: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram."""

    style: int
    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Chart:
    """A figure with its axes; `legend` has a style and a name for each series."""

    title: str
    x_label: str
    x: Axis
    y: Axis
    legend: tuple[tuple[int, str], ...]
    lines: tuple[ChartLine, ...] = ()
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Series:
    """Points of one line; `intervals` has the lower and upper end at some x."""

    name: str
    points: Points
    intervals: Mapping[float, tuple[float, float]] = field(default_factory=dict)


def line_chart(title: str, x_label: str, given: Sequence[Series]) -> Chart | None:
    """Lines over a common pair of axes; None if there is no finite point."""
    series = [
        Series(one.name, finite, one.intervals)
        for one in given
        if (finite := [p for p in one.points if all(map(math.isfinite, p))])
    ]
    if not series:
        return None
    ends = [end for one in series for interval in one.intervals.values() for end in interval]
    at = [px for one in series for px, _ in one.points]
    x = axis(at, LEFT, RIGHT, whole=all(isinstance(px, int) for px in at))
    y = axis([py for one in series for _, py in one.points] + ends, BOTTOM, TOP)
    lines = tuple(draw_line(number, one, x, y) for number, one in enumerate(series))
    return Chart(title, x_label, x, y, tuple((n.style, n.name) for n in lines), lines=lines)


def draw_line(number: int, series: Series, x: Axis, y: Axis) -> ChartLine:
    """A series in pixels; too many dots would hide the line."""
    dots = [(x(px), y(py), f"{series.name}: {px:g}, {py:.4g}") for px, py in series.points]
    return ChartLine(
        name=series.name,
        style=number,
        path=" ".join(f"{px},{py}" for px, py, _ in dots),
        dots=tuple(dots) if len(dots) <= MAX_DOTS else (),
        bars=tuple((x(px), y(low), y(high)) for px, (low, high) in series.intervals.items()),
    )


def histogram(title: str, x_label: str, values: Mapping[str, Sequence[float]]) -> Chart | None:
    """Bars side by side for each named set of non-negative values; None if all are empty."""
    everything = [value for of_name in values.values() for value in of_name]
    if not everything:
        return None
    x = axis([0, max(*everything, 1)], LEFT, RIGHT, whole=True)
    # Whole tokens; as ticks are 1, 2, 5, 10, 20, ... apart, bins end where the axis does.
    width = max(1.0, x.high / (len(x.ticks) - 1) / BINS_PER_TICK)
    num_bins = round(x.high / width)
    counts = {name: count(of_name, width, num_bins) for name, of_name in values.items()}
    y = axis([0, max(max(of_name) for of_name in counts.values())], BOTTOM, TOP, whole=True)
    step = (x(width) - x(0)) / len(counts)
    bars = tuple(
        Bar(
            style=style,
            x=round(x(place * width) + style * step + 0.5, 2),
            y=y(height),
            width=round(max(step - 0.5, 0.5), 2),
            height=round(BOTTOM - y(height), 2),
            says=f"{height} {name}, {place * width:g} to {(place + 1) * width - 1:g} {x_label}",
        )
        for style, (name, of_name) in enumerate(counts.items())
        for place, height in enumerate(of_name)
        if height
    )
    return Chart(title, x_label, x, y, tuple(enumerate(counts)), bars=bars)


def count(values: Sequence[float], width: float, num_bins: int) -> list[int]:
    """Values in each bin; the last also has its upper end."""
    counts = [0] * num_bins
    for value in values:
        counts[min(int(value // width), num_bins - 1)] += 1
    return counts


def axis(values: Sequence[float], first: float, last: float, *, whole: bool = False) -> Axis:
    """Round ends and three to seven ticks around the values, at whole numbers if so asked."""
    low, high = min(values), max(values)
    if low == high:
        low, high = (low, high + 1) if low == 0 else (low - abs(low) / 10, high + abs(high) / 10)
    step = round_step((high - low) / 6)
    step = max(step, 1.0) if whole else step
    low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    scale = Axis(low, high, first, last)
    values = [low + place * step for place in range(round((high - low) / step) + 1)]
    return Axis(low, high, first, last, tuple(Tick(scale(v), tick_label(v, step)) for v in values))


def round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... upwards, at any power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def tick_label(value: float, step: float) -> str:
    """As many decimals as the step has."""
    if abs(value) < step / 2:
        return "0"
    if abs(value) >= 1e5 or step < 1e-4:
        return f"{value:.2g}"
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
