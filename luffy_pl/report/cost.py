"""What runs have cost, from the ledger in their metrics, and curves over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from luffy_pl.errors import StorageError
from luffy_pl.evaluation.tables import percent, plain_table
from luffy_pl.run_dir.read import RunHistory

REWARD = "on_off_metrics/on_score"


@dataclass(frozen=True)
class Measure:
    """What a curve is drawn over.

    Args:
        metric: of the ledger; None for the phase itself.
        unit: of the axis, in units of the metric.
    """

    label: str
    metric: str | None = None
    unit: float = 1.0


PHASE = Measure("phase")
MEASURES = {
    "phase": PHASE,
    "generated_tokens": Measure("generated tokens", "ledger/generated_tokens"),
    "flops": Measure("PFLOP", "ledger/model_flops", 1e15),
}
TOTALS = {
    "generated": Measure("tokens generated", "ledger/generated_tokens"),
    "own": Measure("own tokens trained", "ledger/trained_rollout_tokens"),
    "given": Measure("given tokens trained", "ledger/trained_given_tokens"),
    "steps": Measure("optimizer steps", "ledger/optimizer_steps"),
    "PFLOP": MEASURES["flops"],
    "seconds": Measure("seconds", "ledger/seconds"),
}
"""Columns of the table of costs."""


def position(run: RunHistory, phase: int, over: Measure) -> float | None:
    """Where a phase lies on the axis; None if the run kept no ledger of it."""
    if over.metric is None:
        return phase
    if phase == 0:
        return 0.0
    total = run.metrics.get(phase, {}).get(over.metric)
    return None if total is None else total / over.unit


def series_over(run: RunHistory, metric: str, over: Measure) -> list[tuple[float, float]]:
    """Points of one metric; phases without a place on the axis are left out."""
    phases, values = run.series(metric)
    return placed(run, list(zip(phases, values, strict=True)), over)


def accuracy_over(run: RunHistory, benchmark: str, over: Measure) -> list[tuple[float, float]]:
    """Accuracy in percent of every evaluation of one benchmark that could be graded."""
    rows = [row for row in run.evaluations if row["benchmark"] == benchmark]
    graded = [(row["phase"], 100 * row["avg"]) for row in rows if row["avg"] is not None]
    return placed(run, sorted(graded), over)


def placed(
    run: RunHistory, by_phase: Sequence[tuple[int, float]], over: Measure
) -> list[tuple[float, float]]:
    """Phase and value as points of a curve."""
    points = [(position(run, phase, over), value) for phase, value in by_phase]
    return [(x, value) for x, value in points if x is not None]


def check_measured(runs: Sequence[RunHistory], over: Measure) -> None:
    """Every run can be drawn over it."""
    for run in runs:
        if over.metric is not None and not run.series(over.metric)[0]:
            raise StorageError(
                run.name,
                f"has no {over.metric} in its metrics.jsonl",
                fix="draw it --over phase, or train again: fit keeps a ledger",
            )


def has_ledger(run: RunHistory) -> bool:
    """Whether the run can be compared by cost."""
    return total(run, MEASURES["flops"]) is not None


def total(run: RunHistory, measure: Measure) -> float | None:
    """At the end of the run."""
    _, values = run.series(measure.metric or "")
    return values[-1] / measure.unit if values else None


def cost_rows(runs: Sequence[RunHistory]) -> list[tuple[str, list[tuple[str, str]], list[str]]]:
    """Name, final accuracy in percent by benchmark, and totals, of runs that kept a ledger."""
    return [
        (
            run.name,
            [(row["benchmark"], percent(row["avg"])) for row in run.evaluation(run.last_phase)],
            [short(total(run, measure)) for measure in TOTALS.values()],
        )
        for run in runs
        if has_ledger(run)
    ]


def cost_table(runs: Sequence[RunHistory]) -> Table | None:
    """One line per run and benchmark; the totals stand beside the first. None without a ledger."""
    rows = cost_rows(runs)
    if not rows:
        return None
    table = plain_table(
        "cost of training (tokens generated and trained, own and given), final accuracy",
        ["run", "benchmark"],
        ["after", *TOTALS],
    )
    for name, accuracies, totals in rows:
        for number, (benchmark, accuracy) in enumerate(accuracies or [("", "")]):
            first = number == 0
            table.add_row(name if first else "", benchmark, accuracy, *(totals if first else []))
        table.add_section()
    return table


def short(number: float | None) -> str:
    """Three digits and a letter, as a table shows it."""
    if number is None:
        return ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
