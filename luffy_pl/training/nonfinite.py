"""Optimizer steps whose loss or gradient is not finite: skipped, counted, and their rows kept."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luffy_pl.errors import DivergedError
from luffy_pl.records import Experience
from luffy_pl.training.micro_batches import MicroBatch
from luffy_pl.training.settings import NonFiniteConfig

log = logging.getLogger(__name__)


@dataclass
class LeftOut:
    """Counts of skipped steps: consecutive ones until now, and all of the run."""

    in_a_row: int = 0
    total: int = 0

    def add(
        self,
        config: NonFiniteConfig,
        experience: Experience,
        index_n: Tensor,
        *,
        losses: Tensor,
        norm: Tensor,
        folder: Path,
        rank: int,
    ) -> None:
        """Count a skipped step and keep its rows `index_n` in `folder`.

        Raises:
            DivergedError: the limit is exceeded. Nothing of the step has reached the weights.
        """
        self.in_a_row += 1
        self.total += 1
        phase, what = experience.phase + 1, "gradient" if losses.isfinite().all() else "loss"
        path = folder / f"not-finite-{self.total:03d}-phase-{phase:06d}-rank-{rank}.pt"
        kept = keep_rows(
            path, experience, index_n, losses=losses.tolist(), grad_norm=norm.item(), phase=phase
        )
        log.warning("phase %d: the %s is not finite, no step is made (%s)", phase, what, kept)
        is_allowed = self.in_a_row <= config.max_in_a_row and self.total <= config.max_total
        if config.policy == "raise" or not is_allowed:
            raise DivergedError(
                f"phase {phase}",
                f"the {what} is not finite; steps left out: {self.in_a_row} in a row, "
                f"{self.total} in all",
                fix=f"lower model.optimizer.lr; the rows are in {kept or 'this phase'}",
            )


def offending_rows(losses: Tensor, micros: Sequence[MicroBatch]) -> Tensor:
    """Rows [n] of the micro-batches whose loss is not finite; all rows if every loss is finite."""
    bad = [micro for micro, loss in zip(micros, losses.tolist(), strict=True) if not _finite(loss)]
    return torch.cat([micro.index_n for micro in bad or micros])


def keep_rows(path: Path, experience: Experience, index_n: Tensor, **values: Any) -> Path | None:
    """Write rows as a dictionary of tensors and plain values, for torch.load; returns the path.

    None if the disk refuses them: a second error must not hide the first.
    """
    if not len(index_n):
        return None
    host, rows = experience.on_host, experience.rows(index_n)
    tensors = {
        field.name: getattr(rows, field.name).cpu()
        for field in dataclasses.fields(rows)
        if isinstance(getattr(rows, field.name), Tensor)
    }
    groups = host.group_N[index_n.cpu()].tolist() if host.groups else []
    named = [host.groups[group].prompt.id for group in groups]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**tensors, "row": index_n.tolist(), "prompt_id": named, **values}, path)
    except (OSError, RuntimeError):  # torch's writer raises the second
        return None
    return path


def _finite(value: float) -> bool:
    return value - value == 0
