"""Curves of one or several runs, as one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from luffy_pl.evaluation.results import AVERAGES
from luffy_pl.process.files import write_file
from luffy_pl.report.cost import PHASE, Measure, accuracy_over, series_over
from luffy_pl.run_dir.read import RunHistory

NUM_COLUMNS = 3
PANELS = {
    "reward of rollouts": "on_off_metrics/on_score",
    "entropy of rollouts (nats per token)": "entropy/rollout_nats",
    "length of rollouts (tokens)": "on_off_metrics/on_response_length_mean",
}
EXPERT_PANELS = {"expert tokens: mean probability": "actor/off_policy_prob"}
WATCHED = "entropy/"
USUAL = {"entropy/rollout_nats", "entropy/expert_nats"}
Points = list[tuple[float, float]]
Panel = dict[str, Points]
"""Points by the name of their line."""


def plot_runs(runs: Sequence[RunHistory], path: Path, *, over: Measure = PHASE) -> None:
    """Write a PNG: accuracies, then one panel per quantity that some run has, a line per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {**accuracy_panels(runs, over), **metric_panels(runs, over)}
    num_rows = max(1, math.ceil(len(panels) / NUM_COLUMNS))
    figure = Figure(figsize=(4.5 * NUM_COLUMNS, 3.2 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, NUM_COLUMNS).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    colours = {run.name: f"C{place % 10}" for place, run in enumerate(runs)}
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for name, points in lines.items():
            # Evaluations are few, and a line between two of them hides where they are.
            marker = "o" if title.startswith("accuracy") else None
            axis.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3,
                      color=colours.get(name))  # fmt: skip
        decorate(axis, title, over.label)
        if len(runs) == 1 and len(lines) > 1:
            axis.legend(frameon=False, fontsize=8)
    if len(runs) > 1:
        keys = [axes[0].plot([], [], color=colour)[0] for colour in colours.values()]
        figure.legend(keys, colours, loc="outside lower center", ncols=4, frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_file(path, picture.getvalue())


def accuracy_panels(runs: Sequence[RunHistory], over: Measure) -> dict[str, Panel]:
    """One panel with a line per benchmark for one run; a panel per benchmark for several runs."""
    names = benchmark_names(runs)
    trained = [run for run in runs if run.metrics]
    if len(runs) == 1:
        title = "accuracy (percent)"
        panels = {title: {name: accuracy_over(runs[0], name, over) for name in names}}
    else:
        panels = {
            f"accuracy on {name} (percent)": {
                run.name: accuracy_over(run, name, over) for run in trained
            }
            for name in names
        }
    return with_points(panels)


def benchmark_names(runs: Sequence[RunHistory]) -> list[str]:
    """Benchmarks of the evaluations of runs that trained, without the averages over them."""
    trained = [run for run in runs if run.metrics]
    names = dict.fromkeys(row["benchmark"] for run in trained for row in run.evaluations)
    return [name for name in names if name not in AVERAGES.values()]


def metric_panels(runs: Sequence[RunHistory], over: Measure) -> dict[str, Panel]:
    """Panels of training; what a run does not have gets no line."""
    guided = [run for run in runs if has_expert(run)]
    panels = {
        title: {run.name: series_over(run, metric, over) for run in whose}
        for whose, quantities in (
            (runs, PANELS), (guided, EXPERT_PANELS), (runs, watched_entropies(runs))
        )
        for title, metric in quantities.items()
    }  # fmt: skip
    return with_points(panels)


def with_points(panels: Mapping[str, Panel]) -> dict[str, Panel]:
    """Without lines that have no point, and panels that have no line."""
    kept = {
        title: {name: points for name, points in lines.items() if points}
        for title, lines in panels.items()
    }
    return {title: lines for title, lines in kept.items() if lines}


def has_expert(run: RunHistory) -> bool:
    """Whether the run trained on an expert's tokens."""
    names = {name for row in run.metrics.values() for name in row}
    return any(name.startswith("expert/") or name == "on_off_metrics/off_score" for name in names)


def watched_entropies(runs: Sequence[RunHistory]) -> dict[str, str]:
    """Title and metric of each watched group of tokens that some run logged."""
    names = {name for run in runs for row in run.metrics.values() for name in row}
    watched = sorted(n for n in names if n.startswith(WATCHED) and n not in USUAL)
    return {
        f"entropy at {n.removeprefix(WATCHED).removesuffix('_nats')} tokens (nats)": n
        for n in watched
    }


def around(value: float) -> tuple[float, float]:
    """The y-axis of a line that does not change: as in the page, and not a millionth wide."""
    margin = abs(value) / 10
    return (0.0, 1.0) if value == 0 else (value - margin, value + margin)


def decorate(axis: Any, title: str, x_label: str = "phase") -> None:
    """Title, label, light grid."""
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x_label)
    if axis.has_data() and axis.dataLim.ymin == axis.dataLim.ymax:
        axis.set_ylim(*around(axis.dataLim.ymin))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
