"""Figures of evaluations: lengths of answers, and pass@k against temperature."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from luffy_pl.report.outcomes import EvaluationOutcome
from luffy_pl.report.page.answers import AnswerLengths
from luffy_pl.report.page.figure import Figure, Line, figure, histogram

ConfidenceInterval = dict[str, float]
LENGTHS = "Number of answers by length. Answers that could not be graded are left out."
TEMPERATURE = "Percent of problems solved within k answers. The band is the 95% interval."


def length_figures(lengths: Iterable[AnswerLengths]) -> list[Figure]:
    """One per benchmark of each command, and for the last phase's rollouts."""
    drawn = [
        histogram(
            one.title, LENGTHS, "tokens", {"correct": one.correct, "incorrect": one.incorrect}
        )
        for one in lengths
    ]
    return [one for one in drawn if one]


@dataclass
class Sweep:
    """One policy on one benchmark: whose runs, and estimates by k and temperature."""

    names: list[str] = field(default_factory=list)
    by_k: dict[int, dict[float, ConfidenceInterval]] = field(
        default_factory=lambda: defaultdict(dict)
    )


def temperature_figures(outcomes: Sequence[tuple[str, EvaluationOutcome]]) -> list[Figure]:
    """pass@k over temperature: a figure per policy and benchmark, a line per k.

    A policy is a model with a checkpoint, so that runs which evaluated one policy at several
    temperatures share a figure. A single temperature is no curve.
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
    drawn = []
    for (_, _, stem), sweep in sweeps.items():
        lines = [pass_line(k, sweep.by_k[k]) for k in sorted(sweep.by_k)]
        if max((len(one.x) for one in lines), default=0) > 1:
            title = f"{', '.join(dict.fromkeys(sweep.names))}: {stem}"
            drawn.append(figure(title, TEMPERATURE, "temperature", lines))
    return [one for one in drawn if one]


def pass_at(benchmark: dict[str, Any]) -> dict[int, ConfidenceInterval]:
    """Estimates by k: of `pass_at`, or the one pass@k there is; numbers that exist."""
    metrics = benchmark["metrics"]
    estimates = benchmark.get("pass_at")
    if not estimates and "pass" in metrics and benchmark.get("k") is not None:
        estimates = {benchmark["k"]: metrics["pass"]}
    return {int(k): one for k, one in (estimates or {}).items() if one["value"] is not None}


def pass_line(k: int, points: dict[float, ConfidenceInterval]) -> Line:
    """In percent, with its intervals."""
    ordered = sorted(points.items())
    low, high = ([None if one[end] is None else 100 * one[end] for _, one in ordered]
                 for end in ("low", "high"))  # fmt: skip
    values = [100 * one["value"] for _, one in ordered]
    return Line(f"pass@{k}", [t for t, _ in ordered], values, None, low, high)


def without_temperature(name: str, temperature: float) -> str:
    """`aime24_t0.6` at 0.6 is aime24: benchmarks of one run have different names."""
    match = re.fullmatch(r"(.+?)[-_@ ](?:t|temp|temperature)?[-_=]?(\d+(?:\.\d+)?)", name)
    return match[1] if match and float(match[2]) == temperature else name
