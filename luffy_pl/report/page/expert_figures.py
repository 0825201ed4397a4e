"""The section on the expert: what it can that the policy cannot, and what is left to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luffy_pl.report.page.charts import Chart, Series, line_chart
from luffy_pl.run_dir.read import RunHistory

# Titles, and a metric by the name of its line; a line without a name is the run's own.
PANELS: Mapping[str, Mapping[str, str]] = {
    "reward: own and expert": {
        "own": "on_off_metrics/on_score",
        "expert": "on_off_metrics/off_score",
    },
    "share of groups that only the expert solves": {"": "batch/only_expert_solves"},
    "imitation left (nats per given token)": {"": "expert/nll_nats"},
    "entropy: own and given tokens (nats)": {
        "own": "entropy/rollout_nats",
        "given": "entropy/expert_nats",
    },
    "length: own and expert (tokens)": {
        "own": "on_off_metrics/on_response_length_mean",
        "expert": "on_off_metrics/off_response_length_mean",
    },
    "share of given tokens in the norm of the gradient": {"": "expert/grad_norm_share"},
    "cosine between the gradients of given and own tokens": {"": "expert/grad_cosine"},
}
HISTOGRAMS = {
    "probability": "expert/probability_hist/",
    "weight": "expert/weight_hist/",
}
EXPERT = "expert/"


def expert_figures(runs: Sequence[RunHistory]) -> list[Chart]:
    """Figures of runs that trained on given tokens; charts without a point are left out."""
    runs = [run for run in runs if guided(run)]
    charts = [line_chart(title, "phase", metric_series(runs, of)) for title, of in PANELS.items()]
    for run in runs:
        charts += [histogram_chart(run, name, several=len(runs) > 1) for name in HISTOGRAMS]
    return [chart for chart in charts if chart]


def guided(run: RunHistory) -> bool:
    """Whether anything was logged of given tokens."""
    return any(name.startswith(EXPERT) for row in run.metrics.values() for name in row)


def metric_series(runs: Sequence[RunHistory], metrics: Mapping[str, str]) -> list[Series]:
    """One for each run and metric."""
    return [
        Series(
            " ".join(filter(None, (run.name if len(runs) > 1 else "", name))) or run.name,
            list(zip(*run.series(metric), strict=True)),
        )
        for run in runs
        for name, metric in metrics.items()
    ]


def histogram_chart(run: RunHistory, name: str, *, several: bool) -> Chart | None:
    """Percent of given tokens in each bin, drawn at its middle: first, middle and last phase."""
    prefix = HISTOGRAMS[name]
    phases = [
        phase
        for phase, row in sorted(run.metrics.items())
        if any(metric.startswith(prefix) for metric in row)
    ]
    if not phases:
        return None
    shown = dict.fromkeys([phases[0], phases[len(phases) // 2], phases[-1]])
    series = [Series(f"phase {phase}", bins(run.metrics[phase], prefix)) for phase in shown]
    title = f"given tokens by {name} (percent)"
    return line_chart(f"{run.name}: {title}" if several else title, name, series)


def bins(row: Mapping[str, float], prefix: str) -> list[tuple[float, float]]:
    """Middle and percent of each bin; its name is its lower end."""
    found = sorted(
        (float(metric.removeprefix(prefix)), 100 * share)
        for metric, share in row.items()
        if metric.startswith(prefix)
    )
    width = 1 / max(1, len(found))
    return [(low + width / 2, share) for low, share in found]
