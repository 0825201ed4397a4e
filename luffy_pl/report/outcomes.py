"""What an evaluation of a run came to, in the schema of results.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from luffy_pl.errors import StorageError, first_line
from luffy_pl.evaluation.results import NAMES, result
from luffy_pl.run_dir.read import RunHistory


@dataclass(frozen=True)
class EvaluationOutcome:
    """One evaluation; `benchmarks` as in results.json.

    Args:
        title: which evaluation it was.
        model: path or hub name, None if the run does not say.
        checkpoint: path, None if the model itself was evaluated or the policy during fit.
        phase: phases trained.
    """

    title: str
    model: str | None
    checkpoint: str | None
    phase: int
    benchmarks: tuple[dict[str, Any], ...]


def read_outcomes(folder: Path, run: RunHistory) -> list[EvaluationOutcome]:
    """The last evaluation within fit, and those of validate and test; each only if it exists."""
    outcomes = []
    if (folder / "evaluation.jsonl").exists() and run.evaluations:
        phase = run.last_phase
        rows = tuple(result(row) for row in run.evaluation(phase))
        outcomes.append(
            EvaluationOutcome(f"fit, phase {phase}", model_of(folder), None, phase, rows)
        )
    files = [folder / f"{name}.json" for name in NAMES.values()]
    outcomes += [read_results(file) for file in files if file.exists()]
    return outcomes


def read_results(file: Path) -> EvaluationOutcome:
    """results.json of validate, or test_results.json."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return EvaluationOutcome(
            title=f"{file.name}, phase {content['phase']}",
            model=content["model"],
            checkpoint=content["checkpoint"],
            phase=content["phase"],
            benchmarks=tuple(content["benchmarks"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            str(file), f"holds no results ({first_line(error)})", fix="evaluate again"
        ) from error


def model_of(folder: Path) -> str | None:
    """`model.policy.path` of the run's config.yaml."""
    file = folder / "config.yaml"
    if not file.exists():
        return None
    try:
        path = OmegaConf.select(OmegaConf.load(file), "model.policy.path")
    except (OmegaConfBaseException, YAMLError):  # a variable of the machine it ran on; cut off
        return None
    return None if path is None else str(path)
