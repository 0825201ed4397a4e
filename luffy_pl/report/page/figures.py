"""Which figures a page has: curves of training, lengths of answers, pass@k against temperature."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from luffy_pl.report.cost import Measure, series_over
from luffy_pl.report.curves import PANELS, watched_panels
from luffy_pl.report.outcomes import EvaluationOutcome
from luffy_pl.report.page.answers import AnswerLengths
from luffy_pl.report.page.charts import Chart, Series, histogram, line_chart
from luffy_pl.report.page.expert_figures import metric_series
from luffy_pl.run_dir.read import RunHistory

ConfidenceInterval = dict[str, float]


def curves(runs: Sequence[RunHistory], over: Measure) -> list[Chart]:
    """The panels of curves.png, one line per run; a panel without a point is left out."""
    charts = []
    for title, metric in {**PANELS, **watched_panels(runs)}.items():
        series = [Series(run.name, series_over(run, metric, over)) for run in runs]
        charts.append(line_chart(title, over.label, series))
    return [chart for chart in charts if chart]


def length_histograms(lengths: Iterable[AnswerLengths]) -> list[Chart]:
    """One per benchmark of each command, and for the last phase's rollouts."""
    charts = [
        histogram(
            of_one.title, "tokens", {"correct": of_one.correct, "incorrect": of_one.incorrect}
        )
        for of_one in lengths
    ]
    return [chart for chart in charts if chart]


TIMINGS = {
    "seconds of a phase": {
        "all": "timing_s/phase",
        "generate": "timing_s/generate",
        "score": "timing_s/score",
        "train": "timing_s/train",
    },
    "tokens per second": {
        "generated": "throughput/generated_tokens_per_s",
        "trained": "throughput/trained_tokens_per_s",
    },
}


def timing_figures(runs: Sequence[RunHistory]) -> list[Chart]:
    """Where the time of a phase goes; a chart without a point is left out."""
    charts = [line_chart(title, "phase", metric_series(runs, of)) for title, of in TIMINGS.items()]
    return [chart for chart in charts if chart]


@dataclass
class Sweep:
    """One policy on one benchmark: whose runs, and estimates by k and temperature."""

    names: list[str] = field(default_factory=list)
    by_k: dict[int, dict[float, ConfidenceInterval]] = field(
        default_factory=lambda: defaultdict(dict)
    )


def temperature_figures(outcomes: Sequence[tuple[str, EvaluationOutcome]]) -> list[Chart]:
    """pass@k over temperature: a chart per policy and benchmark, a line per k.

    A policy is a model with a checkpoint, so that runs which evaluated one policy at several
    temperatures share a chart. A single temperature is no curve.
    """
    sweeps: dict[tuple[str | None, str | None, str], Sweep] = defaultdict(Sweep)
    for name, outcome in outcomes:
        for benchmark in outcome.benchmarks:
            temperature = benchmark.get("temperature")
            if temperature is None:
                continue
            stem = without_temperature(benchmark["name"], temperature)
            sweep = sweeps[outcome.model, outcome.checkpoint, stem]
            sweep.names.append(name)
            for k, estimate in pass_at(benchmark).items():
                sweep.by_k[k][temperature] = estimate
    charts = []
    for (_, _, stem), sweep in sweeps.items():
        series = [pass_series(k, sweep.by_k[k]) for k in sorted(sweep.by_k)]
        if max((len(one.points) for one in series), default=0) > 1:
            title = f"{', '.join(dict.fromkeys(sweep.names))}: {stem}"
            charts.append(line_chart(title, "temperature", series))
    return [chart for chart in charts if chart]


def pass_at(benchmark: dict[str, Any]) -> dict[int, ConfidenceInterval]:
    """Estimates by k: of `pass_at`, or the one pass@k there is; numbers that exist."""
    metrics = benchmark["metrics"]
    estimates = benchmark.get("pass_at")
    if not estimates and "pass" in metrics and benchmark.get("k") is not None:
        estimates = {benchmark["k"]: metrics["pass"]}
    return {int(k): one for k, one in (estimates or {}).items() if one["value"] is not None}


def pass_series(k: int, points: dict[float, ConfidenceInterval]) -> Series:
    """One line, in percent, with its intervals."""
    ordered = sorted(points.items())
    return Series(
        f"pass@{k}",
        [(temperature, 100 * one["value"]) for temperature, one in ordered],
        {t: (100 * one["low"], 100 * one["high"]) for t, one in ordered},
    )


def without_temperature(name: str, temperature: float) -> str:
    """`aime24_t0.6` at 0.6 is aime24: benchmarks of one run have different names."""
    match = re.fullmatch(r"(.+?)[-_@ ](?:t|temp|temperature)?[-_=]?(\d+(?:\.\d+)?)", name)
    return match[1] if match and float(match[2]) == temperature else name
