"""What can be turned on the training side; each section is one block under `model:`.

Bounds are checked on construction, so a wrong value is an error before any weight is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from luffy_pl.bounds import at_least
from luffy_pl.errors import ConfigError


@dataclass(frozen=True)
class SftOptimizerConfig:
    """A second AdamW, for optimizer steps that imitate only; betas and eps are the first one's."""

    lr: float = 1e-6
    """Learning rate."""
    max_grad_norm: float | None = 1.0
    """Global gradient norm is clipped here; null is off."""
    skip_grad_norm: float | None = None
    """A step with a larger gradient norm is left out; null is off."""

    def __post_init__(self) -> None:
        for name in ("lr", "max_grad_norm", "skip_grad_norm"):
            at_least("model.optimizer.sft." + name, getattr(self, name), 0)


@dataclass(frozen=True)
class NonFiniteConfig:
    """Optimizer steps whose loss or gradient is NaN or infinite, on any rank.

    No such step reaches weights or moments. Its rows are kept in `<run_dir>/debug/`.
    """

    policy: Literal["raise", "skip"] = "skip"
    """raise: the first ends the run; skip: they are left out and counted, up to a number."""
    max_in_a_row: int = 3
    """The next one in a row ends the run."""
    max_total: int = 10
    """The next one of the run ends it."""

    def __post_init__(self) -> None:
        for name in ("max_in_a_row", "max_total"):
            at_least("model.optimizer.non_finite." + name, getattr(self, name), 1)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its schedule, and how a phase is cut."""

    lr: float = 1e-6
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment. At 1e-8 a batch without reward moves the weights
    as far as any other, by its entropy bonus alone; 1e-5 and more keep the proportion."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    max_grad_norm: float | None = 1.0
    """Global gradient norm is clipped here; null is off."""
    skip_grad_norm: float | None = None
    """A step with a larger gradient norm is left out; null is off."""
    warmup_steps: int = 0
    """Optimizer steps of linear warm-up."""
    sft: SftOptimizerConfig | None = None
    """Optimizer of steps that imitate only (`data.rollout.sft_phases`, `imitation_buffer`); null
    takes this one for all."""
    steps_per_phase: int = 1
    """Optimizer steps per rollout phase; each takes an equal share of its prompts."""
    micro_batch_tokens: int = 16384
    """Most tokens in one forward pass of one rank; none is padding; a prompt counts once for its
    rows (`attention: sdpa`). Halved once by itself where memory runs out on a single rank: the
    gradient stays the same."""
    non_finite: NonFiniteConfig = field(default_factory=NonFiniteConfig)
    """What becomes of a step whose loss or gradient is not finite."""

    def __post_init__(self) -> None:
        for name in ("lr", "steps_per_phase", "micro_batch_tokens"):
            if getattr(self, name) <= 0:
                raise ConfigError(
                    "model.optimizer." + name,
                    "must be positive",
                    value=getattr(self, name),
                    fix="use a value above 0",
                )
        for name in ("eps", "weight_decay", "max_grad_norm", "skip_grad_norm", "warmup_steps"):
            at_least("model.optimizer." + name, getattr(self, name), 0)
