"""`results.json` and `results.md`: the outcome of an evaluation, to be read by others.

They are those of validate; test writes `test_results.json` and `test_results.md`.
Schema of both, version 1; later versions only add keys:

    {"version": 1,
     "model": path or hub name, "checkpoint": path or null, "phase": phases trained,
     "recipe": of the run that wrote the checkpoint; left out where there is none,
     "benchmarks": [
       {"name": "aime24", "n": problems, "k": answers per problem or null for an average,
        "temperature": of sampling, 0 is greedy, null for an average,
        "out_of_distribution": true or false,
        "metrics": {"avg": {"value": 0.29, "low": 0.21, "high": 0.37},
                    "tokens_correct": {"value": 812.5, "low": ..., "high": ..., "n": answers},
                    ...},
        "pass_at": {"1": {"value": 0.29, "low": 0.21, "high": 0.37}, "2": ..., "4": ...}}]}

`low` and `high` are the 95% interval over problems: Wilson's where each problem is right or wrong,
else by bootstrap; see `statistics.py`. The metrics are those of `BenchmarkMetric.compute`, then
those that the benchmark names; an average over benchmarks has avg alone, and no pass_at. null is a
number that does not exist: nothing could be graded, or no answer was right or wrong.

Beside it lie `validate/answers/*.jsonl` (`test/...` of a test), a line for each answer,
`validate/phase-*.jsonl`, the counts of each problem, and the `rollouts/*.jsonl` of a fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.process.files import write_file

VERSION = 1
NAMES = {"validate": "results", "test": "test_results"}
"""Files of each command: neither replaces those of the other."""
AVERAGES = {False: "average", True: "average_ood"}
"""Rows that are means over benchmarks, by whether these are out of distribution."""
METRICS = (
    "avg",
    "pass",
    "maj",
    "no_answer",
    "truncated",
    "timeout",
    "tokens",
    "tokens_correct",
    "tokens_incorrect",
)
IN_PERCENT = {"avg": "avg@k", "pass": "pass@k", "maj": "maj@k"}
ENDS = ("value", "low", "high")
LENGTHS = {"tokens_correct": "correct", "tokens_incorrect": "incorrect"}


def write_results(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    command: str,
    model: str,
    checkpoint: str | None,
    phase: int,
    recipe: str | None = None,
) -> None:
    """Write results.json and results.md of validate or test."""
    benchmarks = [result(row) for row in rows]
    outcome = {
        "version": VERSION,
        "model": model,
        "checkpoint": checkpoint,
        "phase": phase,
        **({} if recipe is None else {"recipe": recipe}),
        "benchmarks": benchmarks,
    }
    name = NAMES[command]
    write_file(folder / f"{name}.json", json.dumps(outcome, indent=2) + "\n")
    write_file(folder / f"{name}.md", markdown(benchmarks))


def result(row: Mapping[str, Any]) -> dict[str, Any]:
    """One benchmark, or an average, in the schema."""
    metrics = {}
    for name in METRICS:
        if name in row:
            prefix = "" if name == "avg" else f"{name}_"
            ends = {end: number(row.get(prefix + end)) for end in ("low", "high")}
            metrics[name] = {"value": number(row[name]), **ends}
            if f"{name}_n" in row:
                metrics[name]["n"] = row[f"{name}_n"]
    for name, estimate in (row.get("metrics") or {}).items():
        metrics[name] = {end: number(estimate[end]) for end in ENDS}
    return {
        "name": row["benchmark"],
        "n": row["n"],
        "k": row.get("k"),
        "temperature": row.get("temperature"),
        "out_of_distribution": row.get("out_of_distribution") or False,
        "metrics": metrics,
        "pass_at": row.get("pass_at") or {},
    }


def number(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or math.isnan(value) else value


def markdown(benchmarks: Sequence[Mapping[str, Any]]) -> str:
    """One line per benchmark and metric: shares in percent, lengths in tokens."""
    lines = ["| benchmark | n | k | metric | value | 95% interval |", "|---|--:|--:|---|--:|--:|"]
    for benchmark in benchmarks:
        k = "" if benchmark["k"] is None else benchmark["k"]
        for metric, value, low, high in shown_metrics(benchmark["metrics"]):
            cells = [benchmark["name"], benchmark["n"], k, metric, value, f"[{low}, {high}]"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def shown_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Name, value and ends of each metric that the table has."""
    for name, shown in IN_PERCENT.items():
        if name in metrics:
            yield (shown, *(decimal(metrics[name][end], 100) for end in ENDS))
    for name, which in LENGTHS.items():
        if name in metrics:
            shown = f"tokens of {metrics[name]['n']} {which} answers"
            yield (shown, *(decimal(metrics[name][end]) for end in ENDS))
    for name in metrics:
        if name not in METRICS:
            yield (name, *(decimal(metrics[name][end], places=3) for end in ENDS))


def decimal(value: float | None, times: int = 1, *, places: int = 1) -> str:
    """With one decimal, or so many; a dash where there is no number."""
    return "-" if value is None else f"{times * value:.{places}f}"
