"""What a teacher adds to the advantage of a token that the policy sampled itself.

With log q the teacher's log-probability and log o the policy's before the phase, the expectation of
log o - log q over the policy's tokens is the KL of policy and teacher: an advantage of
log q - log o, of one token each, is policy gradient on minus that KL (Thinking Machines Lab,
On-Policy Distillation, 2025). RLSD (arXiv 2604.03128) lets the teacher decide how much of the
reward's advantage a token gets.

Shapes in this file: N rows of a micro-batch, T predictions. Log-probabilities are in nats; nothing
here has a gradient.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from luffy_pl.objective.normalize import taught_mask
from luffy_pl.objective.settings import DistillationConfig, ObjectiveConfig
from luffy_pl.objective.tokens import Tokens


def added_coefficient(config: DistillationConfig | None, phase: int) -> float:
    """Factor of what the teacher adds; 0 where it adds nothing."""
    return 0.0 if config is None or config.mode == "scale" else config.coefficient(phase)


@torch.no_grad()
def log_ratio(tokens: Tokens, config: DistillationConfig) -> Tensor:
    """Log-ratio log q - log o of taught tokens, bounded in mode add, [N, T]; 0 elsewhere."""
    mask_NT = taught_mask(tokens)
    if tokens.teacher_logprob_NT is None:  # a phase that only imitates asks no teacher
        if mask_NT.any():
            raise ValueError("a distillation needs log-probabilities of the teacher")
        return torch.zeros_like(tokens.old_logprob_NT)
    ratio_NT = tokens.teacher_logprob_NT - tokens.old_logprob_NT
    ratio_NT = ratio_NT.masked_fill(~mask_NT, 0.0)
    if config.mode == "scale" or config.clip is None:
        return ratio_NT
    return ratio_NT.clamp(-config.clip, config.clip)


@torch.no_grad()
def reward_part(tokens: Tokens, config: DistillationConfig, phase: int) -> Tensor:
    """The advantage that the reward gives each token, [N, T] or [N, 1]."""
    advantage_N1, coef = tokens.advantage_N[:, None], config.coefficient(phase)
    if config.mode == "add":
        given_NT = tokens.off_policy_mask_NT
        return advantage_N1 if config.with_reward else advantage_N1 * given_NT
    if coef == 0:
        return advantage_N1
    weight_NT = (advantage_N1.sign() * log_ratio(tokens, config)).exp()
    if config.clip is not None:
        weight_NT = weight_NT.clamp(1 - config.clip, 1 + config.clip)
    scaled_NT = advantage_N1 * (1 - coef + coef * weight_NT)
    return torch.where(taught_mask(tokens), scaled_NT, advantage_N1)


@torch.no_grad()
def with_teacher(tokens: Tokens, objective: ObjectiveConfig, phase: int) -> Tokens:
    """The tokens with their whole advantage, that of the teacher included."""
    config = objective.distillation
    if config is None:
        return tokens
    whole_NT = reward_part(tokens, config, phase)
    coef = added_coefficient(config, phase)
    if coef:
        whole_NT = whole_NT + coef * log_ratio(tokens, config)
    return replace(tokens, token_advantage_NT=whole_NT)
