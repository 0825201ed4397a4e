"""metrics.jsonl: all metrics of a run as JSON Lines."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from luffy_pl.process.files import append_to_file


class JsonlLogger(Logger):
    """Appends {"step": phase, metric: value, ...}; several lines may share a step."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "jsonl"

    @property
    def version(self) -> str:
        """Empty: a run has one log."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        self._append({"step": step, **metrics})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Append one line of hyperparameters, such as the name of an ablation."""
        self._append({"hyperparameters": params if isinstance(params, dict) else vars(params)})

    def _append(self, line: dict[str, Any]) -> None:
        # A crash may have cut the last line off: the next one must not continue it.
        between = "\n" if is_torn(self.path) else ""
        append_to_file(self.path, between + json.dumps(line, default=float) + "\n")


def is_torn(path: Path) -> bool:
    """Whether the last line of a file has no end."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # missing, or empty
        return False
