"""AdamW, its learning rate, and the gradient norm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from luffy_pl.policy.lora import whole
from luffy_pl.training.settings import (
    LearningRateSchedule,
    OptimizerConfig,
    SftOptimizerConfig,
)


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of one optimizer: its peak, and what each of its steps has of it."""

    peak: float
    warmup_steps: int
    schedule: LearningRateSchedule
    planned_steps: int

    def factor(self, step: int) -> float:
        """Share of the peak that a step has."""
        return self.schedule.factor(
            step, warmup_steps=self.warmup_steps, planned_steps=self.planned_steps
        )


def learning_rates(
    config: OptimizerConfig, *, num_phases: int, sft_phases: int = 0
) -> list[LearningRate]:
    """That of each optimizer of a run.

    Args:
        num_phases: of the run.
        sft_phases: those at its beginning that only imitate.
    """
    sft, steps = config.sft, config.steps_per_phase
    own = min(sft_phases, num_phases) if sft else 0
    first = LearningRate(
        config.lr, config.warmup_steps, config.schedule, (num_phases - own) * steps
    )
    if sft is None:
        return [first]
    warmup_steps = config.warmup_steps if sft.warmup_steps is None else sft.warmup_steps
    return [first, LearningRate(sft.lr, warmup_steps, sft.schedule, own * steps)]


def build_optimizers(
    parameters: list[nn.Parameter], config: OptimizerConfig, rates: Sequence[LearningRate]
) -> list[dict[str, Any]]:
    """Build optimizers and schedules in the form that `configure_optimizers` returns.

    Each schedule counts the steps of its own optimizer.
    """
    return [_adamw(parameters, config, rate) for rate in rates]


def step_limits(
    config: OptimizerConfig, *, imitates: bool
) -> tuple[int, OptimizerConfig | SftOptimizerConfig]:
    """Number and settings of the optimizer that makes a step."""
    if imitates and config.sft is not None:
        return 1, config.sft
    return 0, config


def _adamw(
    parameters: list[nn.Parameter], config: OptimizerConfig, rate: LearningRate
) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(
        [{"params": group} for group in by_mesh(parameters)],
        lr=rate.peak,
        **adamw_settings(config),
        fused=True,  # one pass over weight, gradient and moments, without temporaries
    )
    # A function, of which a checkpoint keeps nothing: other callables would be restored from it.
    schedule = LambdaLR(optimizer, lambda step: rate.factor(step))
    return {"optimizer": optimizer, "lr_scheduler": schedule}


def adamw_settings(config: OptimizerConfig) -> dict[str, Any]:
    """What all optimizers share, under torch's names."""
    return {"betas": config.betas, "eps": config.eps, "weight_decay": config.weight_decay}


def apply_settings(
    optimizers: Sequence[torch.optim.Optimizer],
    schedules: Sequence[LambdaLR],
    config: OptimizerConfig,
    rates: Sequence[LearningRate],
) -> None:
    """Give optimizers and schedules the settings of `config` and their learning rates, in place.

    A checkpoint restores moments and counts of steps, and with them the settings that it was
    trained with. With the same settings nothing changes, bit for bit.
    """
    for optimizer, schedule, rate in zip(optimizers, schedules, rates, strict=True):
        lr = rate.peak * rate.factor(schedule.last_epoch)
        for group in optimizer.param_groups:
            group.update(adamw_settings(config), initial_lr=rate.peak, lr=lr)
        schedule.base_lrs = [rate.peak for _ in optimizer.param_groups]
        schedule._last_lr = [lr for _ in optimizer.param_groups]


def make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Allocate now, on the device of the weights, the state that AdamW allocates at its first step.

    To save or load shards, torch would allocate it by a step with zero gradients, and count that
    step: an optimizer that has not stepped yet would continue from the checkpoint as if it had.
    """
    for weight in chain.from_iterable(group["params"] for group in optimizer.param_groups):
        optimizer.state[weight] = {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }


def grad_norm_and_clip(parameters: Iterable[nn.Parameter], *, max_norm: float | None) -> Tensor:
    """Global norm before clipping, over all shards; gradients are scaled to at most `max_norm`."""
    trained = by_mesh(p for p in parameters if p.grad is not None)
    # Sharded parameters give a norm that is itself spread over ranks.
    norms = [
        whole(get_total_norm([p.grad for p in group if p.grad is not None])) for group in trained
    ]
    norm = norms[0] if len(norms) == 1 else get_total_norm(norms)
    if max_norm is not None:
        for group in trained:
            clip_grads_with_norm_(group, max_norm, norm)
    return norm


def by_mesh(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Group parameters by device mesh, since torch cannot combine norms of different meshes."""
    groups: dict[Any, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
    return list(groups.values())


def as_list(found: Any) -> list[Any]:
    """Lightning hands out a single optimizer or schedule without a list."""
    return found if isinstance(found, list) else [found]
