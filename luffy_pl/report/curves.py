"""Curves of one or several runs, as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from luffy_pl.process.files import write_file
from luffy_pl.report.cost import PHASE, Measure, series_over
from luffy_pl.run_dir.read import RunHistory

NUM_COLUMNS = 3
PANELS = {
    "reward of rollouts": "on_off_metrics/on_score",
    "entropy of rollouts (nats per token)": "entropy/rollout_nats",
    "length of rollouts (tokens)": "on_off_metrics/on_response_length_mean",
    "expert tokens: mean probability": "actor/off_policy_prob",
}
WATCHED = "entropy/"
USUAL = {"entropy/rollout_nats", "entropy/expert_nats"}


def plot_runs(runs: Sequence[RunHistory], path: Path, *, over: Measure = PHASE) -> None:
    """Write a PNG with one panel per quantity and one line per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {**PANELS, **watched_panels(runs)}
    num_rows = math.ceil(len(panels) / NUM_COLUMNS)
    figure = Figure(figsize=(4.5 * NUM_COLUMNS, 3.2 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, NUM_COLUMNS).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, metric) in zip(axes, panels.items(), strict=False):
        for run in runs:
            points = series_over(run, metric, over)
            axis.plot([x for x, _ in points], [y for _, y in points], label=run.name)
        decorate(axis, title, over.label)
    if len(runs) > 1:
        axes[0].legend(frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_file(path, picture.getvalue())


def watched_panels(runs: Sequence[RunHistory]) -> dict[str, str]:
    """A panel for each watched group of tokens that some run logged."""
    names = {name for run in runs for row in run.metrics.values() for name in row}
    watched = sorted(n for n in names if n.startswith(WATCHED) and n not in USUAL)
    return {
        f"entropy at {n.removeprefix(WATCHED).removesuffix('_nats')} tokens (nats)": n
        for n in watched
    }


def decorate(axis: Any, title: str, x_label: str = "phase") -> None:
    """Title, label, light grid."""
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x_label)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
