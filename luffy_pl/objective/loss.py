"""The only policy loss: tokens of the policy and of others, weighted, clipped, per token.

Shapes in this file: N rows of a micro-batch, T predictions. Log-probabilities are in nats.
Nothing is summed here: the caller multiplies with `normalize.token_weight` and sums, so that
the split into micro-batches cannot change the gradient.
Reference: Learning to Reason under Off-Policy Guidance (LUFFY), arXiv 2504.14945.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luffy_pl.objective.shaping import Shaping


def policy_loss(
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
    max_probability: float | None,
) -> Tensor:
    """Minus advantage times weight, [N, T]; the weights are those of `policy_weights`.

    Exactly 0, in value and gradient, outside the response mask and on tokens likelier than
    `max_probability` (None: no ceiling). What the inputs hold there is never read.

    Args:
        logprob_NT: current policy; carries the gradient.
        response_mask_NT: true on tokens to learn from, false on prompt and padding.
    """
    kept_NT = response_mask_NT.bool() & probability_ceiling_mask(logprob_NT, max_probability)
    _, weight_NT = policy_weights(
        logprob_NT=logprob_NT,
        old_logprob_NT=old_logprob_NT,
        behaviour_logprob_NT=behaviour_logprob_NT,
        advantage_N=advantage_N,
        response_mask_NT=kept_NT,
        off_policy_mask_NT=off_policy_mask_NT,
        on_policy_shaping=on_policy_shaping,
        off_policy_shaping=off_policy_shaping,
        clip_low=clip_low,
        clip_high=clip_high,
        min_off_policy_weight=min_off_policy_weight,
        max_off_policy_weight=max_off_policy_weight,
    )
    return masked_loss(weight_NT, advantage_N=advantage_N, mask_NT=kept_NT)


def policy_weights(
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
) -> tuple[Tensor, Tensor]:
    """Weight of each token before and after clipping, both [N, T]; any finite value off the mask.

    on-policy token: `on_policy_shaping`, then the PPO clip to 1 - clip_low, 1 + clip_high.
    off-policy token: `off_policy_shaping`, then clamped to the two bounds, never PPO-clipped.
    None switches a bound off.

    Args:
        old_logprob_NT: the policy that sampled; read on on-policy tokens only.
        behaviour_logprob_NT: whoever wrote the token; read on off-policy tokens only.
    """
    # Fill before exp: torch.where alone would let a NaN of the branch not taken into the gradient.
    is_off_NT = response_mask_NT.bool() & off_policy_mask_NT.bool()
    is_on_NT = response_mask_NT.bool() & ~off_policy_mask_NT.bool()
    on_weight_NT = on_policy_shaping.on_policy(
        logprob_NT.masked_fill(~is_on_NT, 0.0), old_logprob_NT.masked_fill(~is_on_NT, 0.0)
    )
    log_ratio_NT = logprob_NT - behaviour_logprob_NT
    off_weight_NT = off_policy_shaping.off_policy(log_ratio_NT.masked_fill(~is_off_NT, 0.0))

    clipped_on_NT = _ppo_clip(on_weight_NT, advantage_N, clip_low=clip_low, clip_high=clip_high)
    clamped_off_NT = _clamp(off_weight_NT, min_off_policy_weight, max_off_policy_weight)
    return (
        torch.where(is_off_NT, off_weight_NT, on_weight_NT),
        torch.where(is_off_NT, clamped_off_NT, clipped_on_NT),
    )


def masked_loss(weight_NT: Tensor, *, advantage_N: Tensor, mask_NT: Tensor) -> Tensor:
    """Minus advantage times weight inside the mask, 0 outside whatever the advantage is."""
    advantage_NT = advantage_N[:, None].expand_as(weight_NT)
    return weight_NT * -advantage_NT.masked_fill(~mask_NT.bool(), 0.0)


def probability_ceiling_mask(logprob_NT: Tensor, max_probability: float | None) -> Tensor:
    """True on tokens that are not likelier than `max_probability` now, [N, T].

    The released `all_max_clip`; there the token mean counts only the tokens left, so a caller
    that normalises by tokens takes `total_tokens` from this mask.
    """
    if max_probability is None:
        return torch.ones_like(logprob_NT, dtype=torch.bool)
    return ~(logprob_NT.detach().exp() > max_probability)


def sft_loss(*, logprob_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Minus the log-probability inside the mask, exactly 0 outside, [N, T]."""
    return -logprob_NT.masked_fill(~mask_NT.bool(), 0.0)


def _ppo_clip(
    weight_NT: Tensor, advantage_N: Tensor, *, clip_low: float | None, clip_high: float | None
) -> Tensor:
    """The weight PPO's pessimistic minimum picks.

    min(A * w, A * clamp(w)) only ever uses the upper bound where A > 0, the lower where A < 0.
    """
    upper_NT = weight_NT if clip_high is None else weight_NT.clamp(max=1 + clip_high)
    lower_NT = weight_NT if clip_low is None else weight_NT.clamp(min=1 - clip_low)
    return torch.where(advantage_N[:, None] >= 0, upper_NT, lower_NT)


def _clamp(weight_NT: Tensor, low: float | None, high: float | None) -> Tensor:
    return weight_NT if low is None and high is None else weight_NT.clamp(low, high)
