"""The objective of a micro-batch: policy, entropy, imitation and KL terms, each with its divisor.

Every term is a plain sum over tokens of value times weight; the weights hold divisors counted over
all micro-batches and ranks of the optimizer step, so the terms of all micro-batches just add up.

Shapes: n rows of a micro-batch, T predictions. Log-probabilities are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luffy_pl.objective.kl import kl_estimate
from luffy_pl.objective.loss import policy_loss, sft_loss
from luffy_pl.objective.normalize import token_weight
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.objective.token_factors import (
    entropy_row_weight,
    mismatch_weight,
    sft_token_weight,
    top_entropy_mask,
)
from luffy_pl.records import Experience


@dataclass(frozen=True)
class Coefficients:
    """What the terms of one optimizer step are multiplied by."""

    policy: float
    entropy: float
    imitation: float
    kl: float


def micro_batch_loss(
    micro: Experience,
    objective: ObjectiveConfig,
    *,
    logprob_nt: Tensor,
    entropy_nt: Tensor,
    old_logprob_nt: Tensor,
    reference_logprob_nt: Tensor | None,
    coefficients: Coefficients,
    totals: dict[str, Tensor],
    max_response_tokens: int,
) -> Tensor:
    """This micro-batch's share of the loss of its optimizer step.

    Args:
        totals: counts of `count_terms`, summed over ranks.
        max_response_tokens: divisor of mode constant where the objective gives none.
    """
    policy_nt = policy_term(
        micro,
        objective,
        logprob_nt=logprob_nt,
        entropy_nt=entropy_nt,
        old_logprob_nt=old_logprob_nt,
        totals=totals,
        max_response_tokens=max_response_tokens,
    )
    loss = coefficients.policy * policy_nt.sum()
    mean_nt = mean_weight(micro.response_mask_NT, totals["tokens"])
    if coefficients.entropy:  # a gradient of zeros would cost passes over all logits
        loss = loss - coefficients.entropy * (entropy_nt * mean_nt).sum()
    if coefficients.imitation > 0:
        term_nt = imitation_term(micro, objective, logprob_nt=logprob_nt, entropy_nt=entropy_nt)
        given_mean_nt = mean_weight(imitation_mask(micro), totals["imitation_tokens"])
        loss = loss + coefficients.imitation * (term_nt * given_mean_nt).sum()
    if reference_logprob_nt is not None and coefficients.kl > 0:
        kl_nt = kl_estimate(logprob_nt, reference_logprob_nt, objective.kl.estimator)
        loss = loss + coefficients.kl * (kl_nt * mean_nt).sum()
    return loss


def policy_term(
    micro: Experience,
    objective: ObjectiveConfig,
    *,
    logprob_nt: Tensor,
    entropy_nt: Tensor,
    old_logprob_nt: Tensor,
    totals: dict[str, Tensor],
    max_response_tokens: int,
) -> Tensor:
    """Each token's part of the policy term, divisor included, [n, T]."""
    policy_nt = policy_loss(
        logprob_NT=logprob_nt,
        old_logprob_NT=old_logprob_nt,
        behaviour_logprob_NT=behaviour_logprob(micro, objective),
        advantage_N=micro.advantage_N,
        response_mask_NT=micro.response_mask_NT,
        off_policy_mask_NT=author_mask(micro, objective),
        max_probability=objective.max_probability,
        **policy_weighting(objective),
    )
    weight_nt = policy_term_weight(
        micro, objective, totals=totals, max_response_tokens=max_response_tokens
    )
    factor_nt = policy_factor(
        micro, objective, entropy_nt=entropy_nt.detach(), old_logprob_nt=old_logprob_nt
    )
    return policy_nt * weight_nt * factor_nt


def policy_term_weight(
    micro: Experience,
    objective: ObjectiveConfig,
    *,
    totals: dict[str, Tensor],
    max_response_tokens: int,
) -> Tensor:
    """Divisor of the policy term as weights [n, T], with the off-policy coefficient."""
    normalizer, coef = objective.normalizer, objective.off_policy.policy_coef
    weight_nt = token_weight(
        policy_mask(micro, coef),
        mode=normalizer.mode,
        total_tokens=totals["policy_tokens"],
        total_rows=normalizer.rows or totals["policy_rows"],
        constant_tokens=normalizer.constant_tokens or max_response_tokens,
    )
    return torch.where(micro.off_policy_mask_NT, coef * weight_nt, weight_nt)


def policy_factor(
    micro: Experience, objective: ObjectiveConfig, *, entropy_nt: Tensor, old_logprob_nt: Tensor
) -> Tensor:
    """Further factors of a token's policy term, without gradient, [n, T]."""
    on_policy, given_nt = objective.on_policy, micro.off_policy_mask_NT
    sampled_nt = micro.response_mask_NT & ~given_nt
    factor_nt = torch.ones_like(entropy_nt)
    if on_policy.mismatch_cap is not None and micro.sampler_logprob_NT is not None:
        factor_nt = factor_nt * mismatch_weight(
            old_logprob_nt, micro.sampler_logprob_NT, mask_NT=sampled_nt, cap=on_policy.mismatch_cap
        )
    if on_policy.positive_weight is not None:
        row_n1 = entropy_row_weight(entropy_nt, sampled_nt, on_policy.positive_weight)
        is_positive_nt = sampled_nt & (micro.advantage_N > 0)[:, None]
        factor_nt = torch.where(is_positive_nt, factor_nt * row_n1, factor_nt)
    share = objective.off_policy.top_entropy_share
    if share is not None:
        unsure_nt = top_entropy_mask(entropy_nt, given_nt, share=share)
        factor_nt = factor_nt.masked_fill(given_nt & ~unsure_nt, 0.0)
    return factor_nt


def imitation_term(
    micro: Experience, objective: ObjectiveConfig, *, logprob_nt: Tensor, entropy_nt: Tensor
) -> Tensor:
    """Weighted negative log-likelihood of given tokens, [n, T]."""
    sft, mask_nt = objective.sft, imitation_mask(micro)
    row_n1 = entropy_row_weight(entropy_nt.detach(), mask_nt, sft.row_weight)
    token_nt = sft_token_weight(logprob_nt, sft.token_weight)
    return sft_loss(logprob_NT=logprob_nt, mask_NT=mask_nt) * token_nt * row_n1


def mean_weight(mask_nt: Tensor, total_tokens: Tensor) -> Tensor:
    """Weights [n, T] that make a sum the mean over all masked tokens of the step."""
    return token_weight(mask_nt, mode="token", total_tokens=total_tokens, total_rows=1)


def count_terms(
    experience: Experience, rows: list[int], objective: ObjectiveConfig
) -> dict[str, Tensor]:
    """Tokens and rows that the terms of a minibatch are divided by, on this rank."""
    policy_nt = policy_mask(experience, objective.off_policy.policy_coef)[rows]
    return {
        "tokens": experience.response_mask_NT[rows].sum(),
        "imitation_tokens": imitation_mask(experience)[rows].sum(),
        "policy_tokens": policy_nt.sum(),
        "policy_rows": policy_nt.any(dim=1).sum(),
    }


def policy_mask(experience: Experience, policy_coef: float) -> Tensor:
    """Tokens in the policy term: of rows that are in it, with or without the given ones."""
    mask_nt = experience.response_mask_NT & experience.in_policy_N[:, None]
    return mask_nt & ~experience.off_policy_mask_NT if policy_coef == 0 else mask_nt


def imitation_mask(experience: Experience) -> Tensor:
    """Tokens to imitate: the given ones of rows that are in that term."""
    return experience.off_policy_mask_NT & experience.in_imitation_N[:, None]


def behaviour_logprob(experience: Experience, objective: ObjectiveConfig) -> Tensor:
    """Log-probability of given tokens under their author, [N, T]; 0 for a teacher taken as sure."""
    if objective.off_policy.behaviour == "recorded":
        return experience.behaviour_logprob_NT
    return torch.zeros_like(experience.behaviour_logprob_NT)


def author_mask(experience: Experience, objective: ObjectiveConfig) -> Tensor:
    """Given tokens whose weight is a ratio to their author; none if it is one to the policy."""
    if objective.off_policy.behaviour == "policy":
        return torch.zeros_like(experience.off_policy_mask_NT)
    return experience.off_policy_mask_NT


def policy_weighting(objective: ObjectiveConfig) -> dict[str, Any]:
    """The part of the objective that weighs tokens, as arguments of `policy_weights`."""
    clip_low, clip_high = objective.on_policy.clip or (None, None)
    return {
        "on_policy_shaping": objective.on_policy.shaping,
        "off_policy_shaping": objective.off_policy.shaping,
        "clip_low": clip_low,
        "clip_high": clip_high,
        "min_off_policy_weight": objective.off_policy.min_weight,
        "max_off_policy_weight": objective.off_policy.max_weight,
    }
