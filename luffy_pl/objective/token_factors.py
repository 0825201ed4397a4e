"""Factors of single tokens and rows that carry no gradient: which tokens count, and how much.

Terms multiply them with their values.

Shapes in this file: N rows of a micro-batch, T predictions. Log-probabilities are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from luffy_pl.bounds import bounded

SftTokenWeight = Literal["one", "probability", "p_one_minus_p"]


@dataclass(frozen=True)
class EntropyWeight:
    """A row's factor scale * exp(power * H), H the policy's mean entropy on the row in nats.

    SRFT (arXiv 2506.19767): 0.5 exp(-H) on demonstrations, 0.1 exp(H) on right answers.
    """

    scale: float = bounded(1.0, at_least=0, at_most=1e6)
    """Factor where the policy is certain (H = 0)."""
    power: float = bounded(0.0, at_least=-100, at_most=100)
    """Per nat: below 0 rows the policy is unsure of count less."""


@torch.no_grad()
def mismatch_weight(
    old_logprob_NT: Tensor, sampler_logprob_NT: Tensor, *, mask_NT: Tensor, cap: float
) -> Tensor:
    """min(p_trainer / p_sampler, cap) inside the mask, 1 outside: truncated importance sampling.

    Engine and trainer compute slightly different probabilities for one policy; the ratio corrects
    the gradient, the cap bounds its variance (Yao et al., "Your Efficient RL Framework Secretly
    Brings You Off-Policy RL Training", 2025).
    """
    log_ratio_NT = (old_logprob_NT - sampler_logprob_NT).masked_fill(~mask_NT, 0.0)
    return log_ratio_NT.exp().clamp(max=cap)


@torch.no_grad()
def top_entropy_mask(entropy_NT: Tensor, mask_NT: Tensor, *, share: float) -> Tensor:
    """The `share` of each row's masked tokens with the highest entropy, at least one, [N, T].

    Prefix-RFT (arXiv 2507.01679) learns from a demonstration's tokens where the policy is unsure.
    Ties go to the earlier token.
    """
    count_N = mask_NT.sum(dim=1)
    kept_N = (share * count_N).ceil()
    order_NT = entropy_NT.masked_fill(~mask_NT, -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    place_NT = torch.empty_like(order_NT).scatter_(
        1, order_NT, torch.arange(order_NT.shape[1], device=order_NT.device).expand_as(order_NT)
    )
    return mask_NT & (place_NT < kept_N[:, None])


@torch.no_grad()
def rare_token_weight(logprob_NT: Tensor, mask_NT: Tensor, *, exponent: float) -> Tensor:
    """(1 - p)^exponent inside the mask, 1 outside: unlikely tokens count more, [N, T].

    RL-PLUS (arXiv 2508.00222), whose released code has the exponent 0.5.
    """
    rare_NT = (1 - logprob_NT.exp()).clamp(min=0.0).pow(exponent)
    return torch.where(mask_NT, rare_NT, 1.0)


@torch.no_grad()
def sft_token_weight(logprob_NT: Tensor, kind: SftTokenWeight) -> Tensor:
    """Factor of each imitated token, [N, T].

    one: 1; probability: p, CHORD's variant by importance sampling; p_one_minus_p: p (1 - p),
    largest where the policy is undecided (CHORD-phi, arXiv 2508.11408).
    """
    probability_NT = logprob_NT.exp()
    match kind:
        case "one":
            return torch.ones_like(logprob_NT)
        case "probability":
            return probability_NT
        case "p_one_minus_p":
            return probability_NT * (1 - probability_NT)


@torch.no_grad()
def entropy_row_weight(entropy_NT: Tensor, mask_NT: Tensor, weight: EntropyWeight | None) -> Tensor:
    """`EntropyWeight` of each row over its masked tokens, [N, 1]; 1 if `weight` is None."""
    if weight is None:
        return entropy_NT.new_ones(len(entropy_NT), 1)
    count_N1 = mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
    mean_N1 = entropy_NT.masked_fill(~mask_NT, 0.0).sum(dim=1, keepdim=True) / count_N1
    return weight.scale * (weight.power * mean_N1).exp()
