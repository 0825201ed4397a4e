"""Means over all ranks, logged once per phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from luffy_pl.objective.metrics import Pair, mean


def mean_over_ranks(trainer: L.Trainer, pairs: Mapping[str, Pair]) -> dict[str, float]:
    """Numerator over denominator, each summed over ranks first.

    Left out if nothing was counted, or if it is not finite.

    Every rank must give the same names: the sum is one collective.
    """
    stacked = torch.stack([torch.stack([n.double(), d.double()]) for n, d in pairs.values()])
    summed = trainer.strategy.reduce(stacked, reduce_op="sum")
    return {
        name: mean(total).item()
        for name, total in zip(pairs, summed.unbind(), strict=True)
        if total[1] > 0 and total[0].isfinite()
    }


def log_phase(trainer: L.Trainer, values: Mapping[str, float], *, phase: int) -> None:
    """To every logger, against the number of phases trained, and to `trainer.callback_metrics`."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=phase)
    trainer.callback_metrics.update({name: torch.tensor(v) for name, v in values.items()})


def pair(value: Tensor, mask: Tensor | None = None) -> Pair:
    """Sum of the finite values (inside the mask) and their number."""
    counted = ~value.isnan() if mask is None else mask & ~value.isnan()
    return value.masked_fill(~counted, 0).sum(), counted.sum()


def single(value: float | Tensor, device: Any) -> Pair:
    """A value that each rank has once."""
    one = torch.ones((), device=device)
    return one * value, one
