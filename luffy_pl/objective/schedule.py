"""Factors that change over a run: pure functions of phase or step, so nothing has to be saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from luffy_pl.bounds import bounded

FallShape = Literal["cosine", "linear"]


def fallen(done: float, *, shape: FallShape, floor: float) -> float:
    """A factor on its way from 1 to `floor`, of which the share `done` lies behind."""
    way = done if shape == "linear" else 0.5 * (1 - math.cos(math.pi * done))
    return 1.0 - (1.0 - floor) * way


@dataclass(frozen=True)
class Schedule:
    """A factor that rises linearly from 0 to 1, then falls to `floor`.

    CHORD's mu (arXiv 2508.11408) is such a factor times its peak.
    """

    warmup_phases: int = bounded(0, at_least=0, at_most=1e9)
    """Phases of the rise; 0 starts at 1."""
    decay_phases: int = bounded(0, at_least=0, at_most=1e9)
    """Phases of the fall, after the rise; 0 stays at 1."""
    shape: FallShape = "cosine"
    """How it falls."""
    floor: float = bounded(0.0, at_least=0, at_most=1)
    """Factor after the fall."""

    def factor(self, phase: int) -> float:
        """Between 0 and 1; phase 0 is the first."""
        if phase < self.warmup_phases:
            return phase / self.warmup_phases
        if not self.decay_phases:
            return 1.0
        done = min(1.0, (phase - self.warmup_phases) / self.decay_phases)
        return fallen(done, shape=self.shape, floor=self.floor)


def schedule_factor(schedule: Schedule | None, phase: int) -> float:
    """The factor of a phase; 1 without a schedule."""
    return 1.0 if schedule is None else schedule.factor(phase)
