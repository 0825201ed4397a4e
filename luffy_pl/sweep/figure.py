"""One picture of a sweep: three curves per group, and the final accuracies of each benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.evaluation.results import AVERAGES
from luffy_pl.report.curves import decorate
from luffy_pl.sweep.summary import Curve, GroupResult

FIGURE = "figure.png"
PANELS = {
    "reward": "reward of rollouts",
    "entropy": "entropy of rollouts (nats per token)",
    "length": "length of rollouts (tokens)",
}
COLUMNS = len(PANELS)
CURVE_INCHES = 3.4


def plot_sweep(
    results: Sequence[GroupResult], curves: Mapping[str, Mapping[str, Curve]], path: Path
) -> None:
    """Write a PNG; a group has the same colour in every panel."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys([*curves, *(result.group for result in results)]))
    benchmarks = list(dict.fromkeys(result.benchmark for result in results))
    benchmarks = [name for name in benchmarks if name not in AVERAGES.values()]
    palette = colormaps["tab10" if len(groups) <= 10 else "tab20"]
    colours = {group: palette(number % palette.N) for number, group in enumerate(groups)}
    heights = [CURVE_INCHES] + [0.9 + 0.24 * len(groups)] * math.ceil(len(benchmarks) / COLUMNS)
    figure = Figure(figsize=(13.5, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    [first, *others] = figure.subplots(len(heights), COLUMNS, squeeze=False, height_ratios=heights)
    for axis, (quantity, title) in zip(first, PANELS.items(), strict=True):
        for group, of_group in curves.items():
            draw_curve(axis, of_group[quantity], colour=colours[group], label=group)
        decorate(axis, title)
    if 0 < len(curves) <= 20:
        first[0].legend(frameon=False, fontsize=7)
    places = [axis for row in others for axis in row]
    for number, axis in enumerate(places):
        if number >= len(benchmarks):
            axis.set_axis_off()
            continue
        of_benchmark = [one for one in results if one.benchmark == benchmarks[number]]
        draw_accuracies(axis, of_benchmark, colours, with_names=number % COLUMNS == 0)
        decorate(axis, f"{benchmarks[number]}: final accuracy", "percent")
    note = "accuracies: mean and 95% t interval over seeds; open: one seed, or all equal"
    figure.supxlabel(note, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_curve(axis: Any, curve: Curve, *, colour: Any, label: str) -> None:
    """The mean over seeds, and a band from the smallest to the largest seed."""
    axis.plot(curve.phases, curve.mean, color=colour, label=label)
    axis.fill_between(curve.phases, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def draw_accuracies(
    axis: Any, results: Sequence[GroupResult], colours: Mapping[str, Any], *, with_names: bool
) -> None:
    """A dot per group, with its interval over seeds as far as a share can go."""
    groups = list(colours)
    for result in results:
        after, place = result.after, groups.index(result.group)
        colour = colours[result.group]
        if after.low is not None and after.high is not None:
            ends = [100 * max(0.0, after.low), 100 * min(1.0, after.high)]
            axis.plot(ends, [place, place], color=colour)
        face = "white" if after.low is None else colour
        axis.plot(100 * after.value, place, "o", color=colour, markerfacecolor=face)
    axis.set_yticks(range(len(groups)), groups if with_names else [""] * len(groups), fontsize=8)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set_xlim(-4, 104)
