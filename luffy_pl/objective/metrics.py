"""Metrics of the policy term, as pairs that can be added over rows before dividing.

Shapes in this file: N rows of a micro-batch, T predictions.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from luffy_pl.objective.kl import kl_estimate
from luffy_pl.objective.loss import author_mask, masked_loss, policy_weights
from luffy_pl.objective.normalize import taught_mask
from luffy_pl.objective.tokens import Tokens, Weighting

Pair = tuple[Tensor, Tensor]


@torch.no_grad()
def policy_metrics(tokens: Tokens, weighting: Weighting) -> dict[str, Pair]:
    """Numerator and number of tokens of each metric, over the rows in the policy term.

    off_pg_loss, on_pg_loss: the loss per off-policy and per on-policy token.
    on_pg_clipfrac: share of on-policy tokens whose loss the gate changed; 0 for one without bound.
    off_ratio_mean: weight of the off-policy tokens, clamped; off_ratio_max_clip_frac and
        off_ratio_min_clip_frac: share of them beyond a bound.
    off_policy_prob: current probability of off-policy tokens; on_policy_prob: probability of
        on-policy tokens under the policy that sampled them, as released.
    ppo_kl: old_logprob - logprob in nats, over response tokens whose old_logprob is known.

    A probability ceiling is not applied, as in the released code.
    """
    mask_NT = tokens.response_mask_NT.bool() & tokens.in_policy_N[:, None]
    off_NT = author_mask(tokens, weighting)
    is_on_NT, is_off_NT = mask_NT & ~off_NT, mask_NT & off_NT
    logprob_NT, old_logprob_NT = tokens.logprob_NT, tokens.old_logprob_NT
    advantage_NT = tokens.advantage_NT
    raw_NT, weight_NT = policy_weights(replace(tokens, response_mask_NT=mask_NT), weighting)
    loss_NT = masked_loss(weight_NT, advantage_NT=advantage_NT, mask_NT=mask_NT)
    # Without an advantage there is nothing to clip: both weights give a loss of 0.
    is_clipped_NT = (raw_NT != weight_NT) & (advantage_NT != 0)
    if weighting.gate is not None and not weighting.gate.bounds:
        is_clipped_NT = torch.zeros_like(is_clipped_NT)
    old_is_known_NT = mask_NT & ~old_logprob_NT.isnan()
    return {
        "off_pg_loss": _pair(loss_NT, is_off_NT),
        "on_pg_loss": _pair(loss_NT, is_on_NT),
        "on_pg_clipfrac": _pair(is_clipped_NT, is_on_NT),
        "off_ratio_mean": _pair(weight_NT, is_off_NT),
        "off_ratio_max_clip_frac": _pair(raw_NT > weight_NT, is_off_NT),
        "off_ratio_min_clip_frac": _pair(raw_NT < weight_NT, is_off_NT),
        "off_policy_prob": _pair(logprob_NT.exp(), is_off_NT),
        "on_policy_prob": _pair(old_logprob_NT.exp(), is_on_NT),
        "ppo_kl": _pair(kl_estimate(old_logprob_NT, logprob_NT, "k1"), old_is_known_NT),
    }


@torch.no_grad()
def teacher_pairs(tokens: Tokens) -> dict[str, Pair]:
    """Numerator and count of metrics of a teacher; none where no teacher has scored.

    teacher_gap: log-probability of the teacher minus the policy's, in nats, of taught tokens: minus
        the KL of policy and teacher, by what the policy sampled.
    taught_rows: share of the rows with sampled tokens that the teacher scored.
    """
    if tokens.teacher_logprob_NT is None:
        return {}
    mask_NT = taught_mask(tokens)
    sampled_N = (tokens.response_mask_NT & ~tokens.off_policy_mask_NT).any(dim=1)
    return {
        "teacher_gap": _pair(tokens.teacher_logprob_NT - tokens.old_logprob_NT, mask_NT),
        "taught_rows": _pair(mask_NT.any(dim=1), sampled_N),
    }


def mean(pair: Pair) -> Tensor:
    """Numerator over number of tokens; 0 where there were none."""
    numerator, num_tokens = pair
    return numerator / num_tokens.clamp(min=1)


def _pair(value_NT: Tensor, mask_NT: Tensor) -> Pair:
    """Sum of a value over a mask and the size of the mask; NaN off the mask is not read."""
    value_NT = value_NT.to(torch.promote_types(value_NT.dtype, torch.float32))
    return value_NT.masked_fill(~mask_NT, 0.0).sum(), mask_NT.sum().to(value_NT.dtype)
