"""What a micro-batch tells about the policy term, in pairs that can be added before dividing.

Shapes in this file: N rows of a micro-batch, T predictions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luffy_pl.objective.kl import kl_estimate
from luffy_pl.objective.loss import masked_loss, policy_weights
from luffy_pl.objective.shaping import Shaping

Pair = tuple[Tensor, Tensor]


@torch.no_grad()
def policy_metrics(
    *,
    logprob_NT: Tensor,
    old_logprob_NT: Tensor,
    behaviour_logprob_NT: Tensor,
    advantage_N: Tensor,
    response_mask_NT: Tensor,
    off_policy_mask_NT: Tensor,
    on_policy_shaping: Shaping,
    off_policy_shaping: Shaping,
    clip_low: float | None,
    clip_high: float | None,
    min_off_policy_weight: float | None,
    max_off_policy_weight: float | None,
) -> dict[str, Pair]:
    """Numerator and number of tokens of each metric; arguments as for `policy_loss`.

    off_pg_loss, on_pg_loss: the loss per off-policy and per on-policy token.
    on_pg_clipfrac: share of on-policy tokens whose loss the PPO clip changed.
    off_ratio_mean: weight of the off-policy tokens, clamped; off_ratio_max_clip_frac and
        off_ratio_min_clip_frac: share of them beyond a bound.
    off_policy_prob: current probability of off-policy tokens; on_policy_prob: probability of
        on-policy tokens under the policy that sampled them, as released.
    ppo_kl: old_logprob - logprob in nats, over response tokens whose old_logprob is known.

    A probability ceiling is not applied, as in the released code.
    """
    mask_NT, off_NT = response_mask_NT.bool(), off_policy_mask_NT.bool()
    is_on_NT, is_off_NT = mask_NT & ~off_NT, mask_NT & off_NT
    raw_NT, weight_NT = policy_weights(
        logprob_NT=logprob_NT,
        old_logprob_NT=old_logprob_NT,
        behaviour_logprob_NT=behaviour_logprob_NT,
        advantage_N=advantage_N,
        response_mask_NT=mask_NT,
        off_policy_mask_NT=off_NT,
        on_policy_shaping=on_policy_shaping,
        off_policy_shaping=off_policy_shaping,
        clip_low=clip_low,
        clip_high=clip_high,
        min_off_policy_weight=min_off_policy_weight,
        max_off_policy_weight=max_off_policy_weight,
    )
    loss_NT = masked_loss(weight_NT, advantage_N=advantage_N, mask_NT=mask_NT)
    # Without an advantage there is nothing to clip: both weights give a loss of 0.
    is_clipped_NT = (raw_NT != weight_NT) & (advantage_N[:, None] != 0)
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


def mean(pair: Pair) -> Tensor:
    """Numerator over number of tokens; 0 where there were none."""
    numerator, num_tokens = pair
    return numerator / num_tokens.clamp(min=1)


def _pair(value_NT: Tensor, mask_NT: Tensor) -> Pair:
    """Sum of a value over a mask and the size of the mask; NaN off the mask is not read."""
    value_NT = value_NT.to(torch.promote_types(value_NT.dtype, torch.float32))
    return value_NT.masked_fill(~mask_NT, 0.0).sum(), mask_NT.sum().to(value_NT.dtype)
