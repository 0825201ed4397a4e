"""AdamW, a warm-up, and the gradient norm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from luffy_pl.policy.lora import whole
from luffy_pl.training.settings import OptimizerConfig, SftOptimizerConfig


def build_optimizers(
    parameters: list[nn.Parameter], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Build optimizers and schedules in the form that `configure_optimizers` returns.

    Each schedule counts the steps of its own optimizer.
    """
    return [_adamw(parameters, config, lr=lr) for lr in learning_rates(config)]


def learning_rates(config: OptimizerConfig) -> list[float]:
    """Peak learning rate of each optimizer."""
    return [config.lr] + ([config.sft.lr] if config.sft else [])


def step_limits(
    config: OptimizerConfig, *, imitates: bool
) -> tuple[int, OptimizerConfig | SftOptimizerConfig]:
    """Number and settings of the optimizer that makes a step."""
    if imitates and config.sft is not None:
        return 1, config.sft
    return 0, config


def _adamw(parameters: list[nn.Parameter], config: OptimizerConfig, *, lr: float) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(
        [{"params": group} for group in by_mesh(parameters)],
        lr=lr,
        **adamw_settings(config),
        fused=True,  # one pass over weight, gradient and moments, without temporaries
    )
    # A function, of which a checkpoint keeps nothing: other callables would be restored from it.
    schedule = LambdaLR(optimizer, lambda step: warmup(step, num_steps=config.warmup_steps))
    return {"optimizer": optimizer, "lr_scheduler": schedule}


def adamw_settings(config: OptimizerConfig) -> dict[str, Any]:
    """What all optimizers share, under torch's names."""
    return {"betas": config.betas, "eps": config.eps, "weight_decay": config.weight_decay}


def warmup(step: int, *, num_steps: int) -> float:
    """The share of the peak learning rate that a step has."""
    return min(1.0, (step + 1) / max(1, num_steps))


def apply_settings(
    optimizers: Sequence[torch.optim.Optimizer],
    schedules: Sequence[LambdaLR],
    config: OptimizerConfig,
) -> None:
    """Give optimizers and schedules the settings of `config`, in place.

    A checkpoint restores moments and counts of steps, and with them the settings that it was
    trained with. With the same settings nothing changes, bit for bit.
    """
    for optimizer, schedule, peak in zip(
        optimizers, schedules, learning_rates(config), strict=True
    ):
        lr = peak * warmup(schedule.last_epoch, num_steps=config.warmup_steps)
        for group in optimizer.param_groups:
            group.update(adamw_settings(config), initial_lr=peak, lr=lr)
        schedule.base_lrs = [peak for _ in optimizer.param_groups]
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
