"""AdamW, a warm-up, and the gradient norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from luffy_pl.training.settings import OptimizerConfig, SftOptimizerConfig


def build_optimizers(
    parameters: list[nn.Parameter], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """In the form `configure_optimizers` returns; each schedule counts its own optimizer steps."""
    rates = [config.lr] + ([config.sft.lr] if config.sft else [])
    return [_adamw(parameters, config, lr=lr) for lr in rates]


def step_limits(
    config: OptimizerConfig, *, imitates: bool
) -> tuple[int, OptimizerConfig | SftOptimizerConfig]:
    """Number and settings of the optimizer that makes a step."""
    if imitates and config.sft is not None:
        return 1, config.sft
    return 0, config


def _adamw(parameters: list[nn.Parameter], config: OptimizerConfig, *, lr: float) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(
        parameters,
        lr=lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over weight, gradient and moments, without temporaries
    )
    _make_moments(optimizer)

    def warmup(step: int) -> float:
        return min(1.0, (step + 1) / max(1, config.warmup_steps))

    return {
        "optimizer": optimizer,
        "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, warmup),
    }


def _make_moments(optimizer: torch.optim.AdamW) -> None:
    """Make now what AdamW would make at its first step.

    To save or load shards, torch makes it by a step with zero gradients, and that step is counted:
    an optimizer that has not stepped yet would go on from the checkpoint as if it had.
    """
    for weight in optimizer.param_groups[0]["params"]:
        optimizer.state[weight] = {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }


def grad_norm_and_clip(parameters: Iterable[nn.Parameter], *, max_norm: float | None) -> Tensor:
    """Global norm before clipping, over all shards; gradients are scaled to at most `max_norm`."""
    gradients = [p for p in parameters if p.grad is not None]
    limit = float("inf") if max_norm is None else max_norm
    norm = torch.nn.utils.clip_grad_norm_(gradients, limit)
    # Sharded parameters give a norm that is itself spread over ranks.
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
