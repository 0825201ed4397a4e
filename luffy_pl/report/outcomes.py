"""What an evaluation of a run came to, in the schema of results.json."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luffy_pl.errors import StorageError, first_line
from luffy_pl.evaluation.results import NAMES, result
from luffy_pl.run_dir.fields import (
    Fields,
    all_values,
    is_count,
    is_estimate,
    is_number,
    is_pass_at,
    is_text,
    or_null,
)
from luffy_pl.run_dir.read import RunHistory, read_setting

log = logging.getLogger(__name__)

MODEL = "model.policy.path"

BENCHMARK = Fields(
    {
        "name": is_text,
        "n": is_count,
        "k": or_null(is_count),
        "temperature": or_null(is_number),
        "metrics": lambda value: all_values(is_estimate)(value) and "avg" in value,
        "pass_at": or_null(is_pass_at),
    }
)
RESULTS = Fields(
    {
        "phase": is_count,
        "model": or_null(is_text),
        "checkpoint": or_null(is_text),
        "benchmarks": lambda value: (
            isinstance(value, list) and all(BENCHMARK.misfit(one) is None for one in value)
        ),
    }
)


@dataclass(frozen=True)
class EvaluationOutcome:
    """One evaluation; `benchmarks` as in results.json.

    Args:
        title: which evaluation it was.
        model: path or hub name, None if the run does not say.
        checkpoint: path, None if the model itself was evaluated or the policy during fit.
        phase: phases trained.
        recipe: the method of the run that trained it.
        before: accuracy before training by benchmark, of those that were evaluated then.
    """

    title: str
    model: str | None
    checkpoint: str | None
    phase: int
    benchmarks: tuple[dict[str, Any], ...]
    recipe: str | None
    before: Mapping[str, float] = field(default_factory=dict)


def read_outcomes(folder: Path, run: RunHistory) -> list[EvaluationOutcome]:
    """The last evaluation within fit, and those of validate and test; each only if it exists."""
    outcomes = []
    if (folder / "evaluation.jsonl").exists() and run.evaluations:
        phase = run.last_phase
        model = read_setting(folder, MODEL)
        rows = tuple(result(row) for row in run.evaluation(phase))
        before = {row["benchmark"]: row["avg"] for row in run.evaluation(0) if phase > 0}
        before = {name: accuracy for name, accuracy in before.items() if accuracy is not None}
        outcomes.append(
            EvaluationOutcome(f"fit, phase {phase}", model, None, phase, rows, run.recipe, before)
        )
    for file in (folder / f"{name}.json" for name in NAMES.values()):
        if file.exists():
            try:
                outcomes.append(read_results(file))
            except StorageError as error:
                log.warning("skipped: %s", error)
    return outcomes


def read_results(file: Path) -> EvaluationOutcome:
    """results.json of validate, or test_results.json.

    Raises:
        StorageError: it is broken.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        problem = RESULTS.misfit(content)
    except (OSError, ValueError, RecursionError) as error:
        problem = f"is no JSON: {first_line(error)}"
    if problem is not None:
        raise StorageError(str(file), f"holds no results ({problem})", fix="evaluate again")
    return EvaluationOutcome(
        title=f"{file.name}, phase {content['phase']}",
        model=content.get("model"),
        checkpoint=content.get("checkpoint"),
        phase=content["phase"],
        benchmarks=tuple(content["benchmarks"]),
        recipe=content.get("recipe"),
    )
