"""Controllers of the entropy and KL coefficients. Their state is one number, kept in checkpoints.

Every rank updates them with the same value, a mean over all ranks, so they stay equal.
"""

from __future__ import annotations

import math

from luffy_pl.objective.schedule import schedule_factor
from luffy_pl.objective.settings import EntropyConfig, KlConfig

MAX_CHANGE = 0.2
"""Most that one full horizon of rows may change the KL coefficient, as a share of it."""


class EntropyController:
    """Holds the mean token entropy at a target.

    integral: the usual rule of soft actor-critic, log coef += lr * (target - entropy), as plain
    gradient descent (the released code uses AdamW with weight decay, each rank for itself).
    """

    def __init__(self, config: EntropyConfig) -> None:
        self.config = config
        self.coef = config.coef

    def at(self, phase: int) -> float:
        """The coefficient of a phase: as far as the controller has come, by the schedule."""
        return self.coef * schedule_factor(self.config.schedule, phase)

    def resume(self, coef: float) -> None:
        """Restore a checkpoint's coefficient; without a target the configuration's stays."""
        if self.config.target_nats is not None:
            self.coef = coef

    def update(self, entropy_nats: float) -> None:
        """Follow the mean token entropy of an optimizer step; one that is not finite is ignored."""
        config = self.config
        if config.target_nats is None or not math.isfinite(entropy_nats):
            return
        if config.controller == "ratio":
            self.coef = config.coef * config.target_nats / max(entropy_nats, 1e-6)
        else:
            self.coef *= math.exp(config.lr * (config.target_nats - entropy_nats))
        if config.max_coef is not None:
            self.coef = min(self.coef, config.max_coef)


class KlController:
    """Holds the KL to the reference at a target (Ziegler et al., arXiv 1909.08593, section 2.2).

    kl_nats: the mean KL per token that it saw last; None before, and where the KL is in the loss.
    """

    def __init__(self, config: KlConfig) -> None:
        self.config = config
        self.coef = config.coef
        self.kl_nats: float | None = None

    def at(self, phase: int) -> float:
        """The coefficient of a phase: as far as the controller has come, by the schedule."""
        return self.coef * schedule_factor(self.config.schedule, phase)

    def resume(self, coef: float) -> None:
        """Restore a checkpoint's coefficient; without a target the configuration's stays."""
        if self.config.target_nats is not None:
            self.coef = coef

    def update(self, kl_nats: float, *, num_rows: int) -> None:
        """Follow the mean KL per token of `num_rows` rows; one that is not finite is ignored."""
        if not math.isfinite(kl_nats):
            return
        self.kl_nats = kl_nats
        if self.config.target_nats is None:
            return
        error = kl_nats / self.config.target_nats - 1
        change = max(-MAX_CHANGE, min(MAX_CHANGE, error))
        self.coef *= 1 + change * num_rows / self.config.horizon
