"""Pictures of sampled answers: pass@k against temperature, and lengths of right and wrong ones.

Both are made from results.csv alone, and only where a benchmark was sampled: greedy answers have
neither several temperatures nor, at k = 1, a pass@k of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy_pl.report.curves import decorate
from luffy_pl.report.page.evaluation_figures import without_temperature
from luffy_pl.sweep.interval import SeedMean, over_seeds
from luffy_pl.sweep.results import AFTER_AXES, ANSWERS, BEFORE_AXES, NUMBERS, RESULTS, read_csv

TEMPERATURE_FIGURE, LENGTH_FIGURE = "temperature.png", "lengths.png"
INCHES_PER_PANEL = 4.2


@dataclass(frozen=True)
class SampledAnswers:
    """All seeds of one group on one sampled benchmark; shares, and tokens.

    right and wrong: mean tokens; None where no seed had such an answer.
    """

    group: str
    benchmark: str
    k: str
    temperature: float
    passed: SeedMean
    accuracy: SeedMean
    right: SeedMean | None
    wrong: SeedMean | None

    @property
    def problems(self) -> str:
        """The name that the benchmark's temperatures have in common."""
        return without_temperature(self.benchmark, self.temperature)


def read_sampled(folder: Path) -> list[SampledAnswers]:
    """One entry per group and sampled benchmark, in the order of results.csv."""
    collected: dict[tuple[str, str], list[dict[str, str]]] = {}
    needs = (*BEFORE_AXES, *AFTER_AXES, *NUMBERS)
    for row in read_csv(folder / RESULTS, needs=needs, numbers=("after", *ANSWERS)):
        # Tables of earlier versions, and averages over benchmarks, have no temperature.
        if row["after"] and float(row.get("sampling_temperature") or 0) > 0:
            collected.setdefault((row["group"], row["benchmark"]), []).append(row)
    return [
        SampledAnswers(
            group,
            benchmark,
            k=rows[0]["k"],
            temperature=float(rows[0]["sampling_temperature"]),
            passed=over_seeds([float(row["pass"]) for row in rows]),
            accuracy=over_seeds([float(row["after"]) for row in rows]),
            right=mean_of_present([row["tokens_correct"] for row in rows]),
            wrong=mean_of_present([row["tokens_incorrect"] for row in rows]),
        )
        for (group, benchmark), rows in collected.items()
    ]


def mean_of_present(values: Sequence[str]) -> SeedMean | None:
    """Over the seeds that have a number."""
    present = [float(value) for value in values if value]
    return over_seeds(present) if present else None


def plot_answers(sampled: Sequence[SampledAnswers], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`; returns the files."""
    drawn = []
    if several := with_several_temperatures(sampled):
        drawn.append(folder / TEMPERATURE_FIGURE)
        plot_temperatures(several, drawn[-1])
    if sampled:
        drawn.append(folder / LENGTH_FIGURE)
        plot_lengths(sampled, drawn[-1])
    return drawn


def with_several_temperatures(sampled: Sequence[SampledAnswers]) -> dict[str, list[SampledAnswers]]:
    """Group by problems that were sampled at more than one temperature."""
    by_problems: dict[str, list[SampledAnswers]] = {}
    for one in sampled:
        by_problems.setdefault(one.problems, []).append(one)
    return {
        problems: found
        for problems, found in by_problems.items()
        if len({one.temperature for one in found}) > 1
    }


def plot_temperatures(by_problems: Mapping[str, Sequence[SampledAnswers]], path: Path) -> None:
    """Two panels for each set of problems: pass@k and accuracy, a line per group."""
    figure, axes = new_figure(rows=len(by_problems), columns=2, row_inches=3.4)
    for (problems, found), [left, right] in zip(by_problems.items(), axes, strict=True):
        for axis, quantity in ((left, "passed"), (right, "accuracy")):
            for number, group in enumerate(dict.fromkeys(one.group for one in found)):
                points = sorted(
                    (one.temperature, getattr(one, quantity)) for one in found if one.group == group
                )
                draw_line(axis, points, label=group, style=number)
            axis.set_ylim(-3, 103)
            axis.set_ylabel("percent")
        decorate(left, f"{problems}: pass@{found[0].k}", "temperature")
        decorate(right, f"{problems}: accuracy of single answers", "temperature")
    axes[0][0].legend(frameon=False, fontsize=8)
    note = "mean and 95% t interval over seeds; no bar: one seed, or all equal"
    figure.suptitle(note, fontsize=9)
    figure.savefig(path, dpi=110)


def draw_line(
    axis: Any, points: Sequence[tuple[float, SeedMean]], *, label: str, style: int
) -> None:
    """Means in percent against temperature, with a bar where seeds differ."""
    at = [temperature for temperature, _ in points]
    values = [100 * mean.value for _, mean in points]
    # NaN draws no bar, where 0 would draw one of no length.
    half = [math.nan if mean.high is None else 100 * (mean.high - mean.value) for _, mean in points]
    line = "-" if style % 2 == 0 else "--"
    axis.errorbar(at, values, yerr=half, label=label, fmt=f"o{line}", capsize=2, lw=1.3, ms=4)


def plot_lengths(sampled: Sequence[SampledAnswers], path: Path) -> None:
    """A panel per benchmark: mean tokens of right and of wrong answers of each group."""
    benchmarks = list(dict.fromkeys(one.benchmark for one in sampled))
    groups = list(dict.fromkeys(one.group for one in sampled))
    inches = 1.3 + 0.3 * len(groups)
    figure, [axes] = new_figure(rows=1, columns=len(benchmarks), row_inches=inches)
    for axis, benchmark in zip(axes, benchmarks, strict=True):
        for one in sampled:
            if one.benchmark == benchmark:
                draw_length(axis, one.right, groups.index(one.group), is_right=True)
                draw_length(axis, one.wrong, groups.index(one.group), is_right=False)
        axis.set_yticks(range(len(groups)), groups if axis is axes[0] else [], fontsize=8)
        axis.set_ylim(len(groups) - 0.5, -0.5)
        decorate(axis, benchmark, "tokens of an answer")
    figure.suptitle(
        "right answers (filled) and wrong ones (open): mean and 95% t interval over seeds; "
        "no bar: one seed, or all equal",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)


def draw_length(axis: Any, length: SeedMean | None, place: int, *, is_right: bool) -> None:
    """One dot; right answers a little above wrong ones."""
    if length is None:
        return
    y, colour = place + (-0.12 if is_right else 0.12), "tab:green" if is_right else "tab:red"
    if length.low is not None and length.high is not None:
        axis.plot([length.low, length.high], [y, y], color=colour, lw=1)
    face = colour if is_right else "white"
    axis.plot(length.value, y, "o", color=colour, markerfacecolor=face, ms=5)


def new_figure(*, rows: int, columns: int, row_inches: float) -> tuple[Any, Any]:
    """A figure of panels, [rows][columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (INCHES_PER_PANEL * columns, row_inches * rows)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)
