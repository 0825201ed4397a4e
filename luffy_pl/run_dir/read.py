"""A finished run, read back from its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from luffy_pl.errors import StorageError
from luffy_pl.run_dir.fields import EVALUATION_ROW, HYPERPARAMETERS_LINE, METRICS_LINE, Fields

log = logging.getLogger(__name__)

# Rows of the evaluations of fit, or, in a folder that fit never wrote to, of the other commands.
EVALUATIONS = ("evaluation.jsonl", "validate.jsonl", "test.jsonl")


@dataclass(frozen=True)
class RunHistory:
    """Metrics by phase, the rows of every evaluation, and the method by its names."""

    name: str
    ablation: str | None
    metrics: dict[int, dict[str, float]]
    evaluations: list[dict[str, Any]]
    recipe: str | None = None

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
        for row in (read_lines(evaluations, EVALUATION_ROW) if evaluations else [])
    }
    return RunHistory(
        folder.absolute().name,
        hyperparameters.get("ablation"),
        metrics,
        list(rows.values()),
        read_setting(folder, "recipe"),
    )


def read_setting(folder: Path, key: str) -> str | None:
    """A setting of the run's config.yaml by its dotted name; None if the run does not say."""
    file = folder / "config.yaml"
    if not file.exists():
        return None
    try:
        value = OmegaConf.select(OmegaConf.load(file), key)
    except (OSError, ValueError, OmegaConfBaseException, YAMLError):
        # Cut off, no mapping, or a variable of the machine it ran on.
        return None
    return None if value is None else str(value)


def read_metrics(file: Path) -> tuple[dict[int, dict[str, float]], dict[str, Any]]:
    """Metrics by phase, and the hyperparameters that were logged among them."""
    metrics: dict[int, dict[str, float]] = {}
    hyperparameters: dict[str, Any] = {}
    for line in iterate_lines(file, METRICS_LINE, HYPERPARAMETERS_LINE):
        if "hyperparameters" in line:
            hyperparameters |= line["hyperparameters"]
        else:
            metrics.setdefault(line.pop("step"), {}).update(line)
    return metrics, hyperparameters


def read_lines(path: Path, *kinds: Fields) -> list[dict[str, Any]]:
    """Lines of one of the kinds; one that was cut off by a crash is left out."""
    return list(iterate_lines(path, *kinds))


def iterate_lines(path: Path, *kinds: Fields) -> Iterator[dict[str, Any]]:
    """The same, one at a time: files of answers can be larger than memory."""
    for _, found in whole_lines(path, *kinds):
        yield found


def whole_lines(path: Path, *kinds: Fields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line as text and as what it holds.

    One that was cut off by a crash is left out; so are those that are broken otherwise, which are
    named in a warning.
    """
    first_wrong, num_wrong = "", 0
    # Only \n ends a line: an answer may hold U+2028 and others that splitlines() cuts at. Bytes
    # that are no UTF-8 are the end of a line that was cut off within a character.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            found, problem = read_line(line, kinds or (Fields(),))
            if found is not None:
                yield line, found
            elif line.endswith("\n") and not line.isspace():
                first_wrong, num_wrong = first_wrong or f"line {number} {problem}", num_wrong + 1
    if num_wrong:
        more = f", and {num_wrong - 1} more" if num_wrong > 1 else ""
        log.warning("%s: skipped what cannot be read: %s%s", path, first_wrong, more)


def read_line(text: str, kinds: Sequence[Fields]) -> tuple[dict[str, Any] | None, str | None]:
    """A line of one of the kinds, or None and what is wrong with it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, "is no JSON"
    problems = [kind.misfit(found) for kind in kinds]
    return (found, None) if None in problems else (None, problems[0])
