"""A finished run, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy_pl.errors import StorageError

# Rows of the evaluations of fit, or, in a folder that fit never wrote to, of the other commands.
EVALUATIONS = ("evaluation.jsonl", "validate.jsonl", "test.jsonl")


@dataclass(frozen=True)
class RunHistory:
    """Metrics by phase, and the rows of every evaluation."""

    name: str
    ablation: str | None
    metrics: dict[int, dict[str, float]]
    evaluations: list[dict[str, Any]]

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        """Phases and values of one metric."""
        points = [
            (step, row[metric]) for step, row in sorted(self.metrics.items()) if metric in row
        ]
        return [step for step, _ in points], [value for _, value in points]

    def evaluation(self, phase: int) -> list[dict[str, Any]]:
        """The rows of one evaluation."""
        return [row for row in self.evaluations if row["phase"] == phase]

    @property
    def last_phase(self) -> int:
        """The phase of the newest evaluation."""
        return max((row["phase"] for row in self.evaluations), default=0)


def read_run(folder: Path) -> RunHistory:
    """Read metrics.jsonl and evaluations; later lines of a phase win, as after a resume.

    Raises:
        StorageError: nothing of fit, validate, test or predict lies in the folder.
    """
    evaluations = next((folder / name for name in EVALUATIONS if (folder / name).exists()), None)
    metrics_file = folder / "metrics.jsonl"
    if not (metrics_file.exists() or evaluations or (folder / "predictions").is_dir()):
        raise StorageError(
            str(folder),
            "has no metrics.jsonl, no evaluation and no predictions",
            fix="give the folder of a run: outputs/<name>",
        )
    metrics, hyperparameters = read_metrics(metrics_file) if metrics_file.exists() else ({}, {})
    rows = {
        (row["phase"], row["benchmark"]): row
        for row in (read_lines(evaluations) if evaluations else [])
    }
    return RunHistory(
        folder.absolute().name, hyperparameters.get("ablation"), metrics, list(rows.values())
    )


def read_metrics(file: Path) -> tuple[dict[int, dict[str, float]], dict[str, Any]]:
    """Metrics by phase, and the hyperparameters that were logged among them."""
    metrics: dict[int, dict[str, float]] = {}
    hyperparameters: dict[str, Any] = {}
    for line in read_lines(file):
        if "hyperparameters" in line:
            hyperparameters |= line["hyperparameters"]
        else:
            metrics.setdefault(line.pop("step"), {}).update(line)
    return metrics, hyperparameters


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; a line that was cut off by a crash is left out."""
    return list(iterate_lines(path))


def iterate_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The same, one at a time: files of answers can be larger than memory."""
    # Only \n ends a line: an answer may hold U+2028 and others that splitlines() cuts at. Bytes
    # that are no UTF-8 are the end of a line that was cut off within a character.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
