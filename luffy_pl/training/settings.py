"""Settings of the training side; each section is one block under `model:`.

Bounds are checked on construction, so a wrong value is an error before any weight is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.objective.schedule import fallen


@dataclass(frozen=True)
class LearningRateSchedule:
    """How a learning rate falls once its warm-up is over.

    Optimizer steps are counted, each optimizer's own, those that are left out among them.
    """

    kind: Literal["constant", "linear", "cosine"] = "constant"
    """Constant: it does not fall."""
    decay_steps: int | None = bounded(None, at_least=1, at_most=1e9)
    """Optimizer steps of the fall; null: those that the run has after the warm-up."""
    floor: float = bounded(0.0, at_least=0, at_most=1)
    """Share of the learning rate that is left after the fall."""

    def factor(self, step: int, *, warmup_steps: int, planned_steps: int) -> float:
        """Share of the learning rate that a step has; step 0 is the first.

        Args:
            planned_steps: that the optimizer makes in the run.
        """
        rise = min(1.0, (step + 1) / max(1, warmup_steps))
        if self.kind == "constant" or step < warmup_steps:
            return rise
        num_steps = self.decay_steps or max(1, planned_steps - warmup_steps)
        done = min(1.0, (step - warmup_steps) / num_steps)
        return fallen(done, shape=self.kind, floor=self.floor)


@dataclass(frozen=True)
class SftOptimizerConfig:
    """A second AdamW, for optimizer steps that imitate only; betas and eps are the first one's."""

    lr: float = bounded(1e-6, above=0, at_most=1e3)
    """Peak learning rate."""
    warmup_steps: int | None = bounded(None, at_least=0, at_most=1e9)
    """Its own steps of linear warm-up; null takes the number of the first optimizer."""
    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    """How its learning rate falls after the warm-up."""
    max_grad_norm: float | None = bounded(1.0, above=0)
    """Global gradient norm is clipped here; null is off."""
    skip_grad_norm: float | None = bounded(None, above=0)
    """A step with a larger gradient norm is left out; null is off."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.optimizer.sft")


@dataclass(frozen=True)
class NonFiniteConfig:
    """Optimizer steps whose loss or gradient is NaN or infinite, on any rank.

    No such step reaches weights or moments. Its rows are kept in `<run_dir>/debug/`.
    """

    policy: Literal["raise", "skip"] = "skip"
    """raise: the first ends the run; skip: they are left out and counted, up to a number."""
    max_in_a_row: int = bounded(3, at_least=1, at_most=1e9)
    """The next one in a row ends the run."""
    max_total: int = bounded(10, at_least=1, at_most=1e9)
    """The next one of the run ends it."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.optimizer.non_finite")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its schedule, and how a phase is cut."""

    lr: float = bounded(1e-6, above=0, at_most=1e3)
    """Peak learning rate."""
    betas: tuple[float, float] = bounded((0.9, 0.999), at_least=0, below=1)
    """Decay of the first and second moment."""
    eps: float = bounded(1e-8, at_least=0, at_most=1e3)
    """Added to the root of the second moment. At 1e-8 a batch without reward moves the weights
    as far as any other, by its entropy bonus alone; 1e-5 and more keep the proportion."""
    weight_decay: float = bounded(0.01, at_least=0, at_most=1e3)
    """Decoupled weight decay."""
    max_grad_norm: float | None = bounded(1.0, above=0)
    """Global gradient norm is clipped here; null is off."""
    skip_grad_norm: float | None = bounded(None, above=0)
    """A step with a larger gradient norm is left out; null is off."""
    warmup_steps: int = bounded(0, at_least=0, at_most=1e9)
    """Optimizer steps of linear warm-up."""
    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    """How the learning rate falls after the warm-up."""
    sft: SftOptimizerConfig | None = None
    """Optimizer of steps that imitate only (`data.rollout.sft_phases`, `imitation_buffer`); null
    takes this one for all."""
    steps_per_phase: int = bounded(1, at_least=1, at_most=1e6)
    """Optimizer steps per rollout phase; each takes an equal share of its prompts."""
    micro_batch_tokens: int = bounded(16384, at_least=1, at_most=1e12)
    """Most tokens in one forward pass of one rank; none is padding; a prompt counts once for its
    rows (`attention: sdpa`). Halved once by itself where memory runs out on a single rank: the
    gradient stays the same."""
    non_finite: NonFiniteConfig = field(default_factory=NonFiniteConfig)
    """What becomes of a step whose loss or gradient is not finite."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.optimizer")
