"""Reward and accuracy over phases, over generated tokens and over compute."""

from __future__ import annotations

from collections.abc import Sequence

from luffy_pl.report.cost import MEASURES, REWARD, accuracy_over, has_ledger, series_over
from luffy_pl.report.page.charts import Chart, Series, line_chart
from luffy_pl.run_dir.read import RunHistory


def cost_figures(runs: Sequence[RunHistory]) -> list[Chart]:
    """For each quantity one chart per measure, with a line per run that kept a ledger."""
    runs = [run for run in runs if has_ledger(run)]
    benchmarks = dict.fromkeys(row["benchmark"] for run in runs for row in run.evaluations)
    charts = []
    for over in MEASURES.values():
        series = [Series(run.name, series_over(run, REWARD, over)) for run in runs]
        charts.append(line_chart(f"reward of rollouts, by {over.label}", over.label, series))
    for benchmark in benchmarks:
        for over in MEASURES.values():
            series = [Series(run.name, accuracy_over(run, benchmark, over)) for run in runs]
            title = f"{benchmark}: accuracy in percent, by {over.label}"
            charts.append(line_chart(title, over.label, series))
    return [chart for chart in charts if chart]
