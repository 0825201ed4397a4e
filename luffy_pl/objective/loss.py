"""The only policy loss: tokens of the policy and of others, weighted, gated, per token.

Shapes in this file: N rows of a micro-batch, T predictions. Log-probabilities are in nats.
Nothing is summed here: the caller multiplies with `normalize.token_weight` and sums, so that
the split into micro-batches cannot change the gradient.
Reference: Learning to Reason under Off-Policy Guidance (LUFFY), arXiv 2504.14945.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from luffy_pl.objective.tokens import Tokens, Weighting


def policy_loss(tokens: Tokens, weighting: Weighting, paid_NT: Tensor | None = None) -> Tensor:
    """Minus advantage times weight, [N, T]; the weights are those of `policy_weights`.

    Args:
        paid_NT: the part of the advantage that is paid here; None pays all of it. A gate looks at
            the whole.

    The loss is exactly 0, in value and gradient, outside the response mask and on tokens likelier
    than `max_probability`. What the inputs hold there is never read.
    """
    kept_NT = tokens.response_mask_NT.bool() & probability_ceiling_mask(
        tokens.logprob_NT, weighting.max_probability
    )
    _, weight_NT = policy_weights(replace(tokens, response_mask_NT=kept_NT), weighting)
    advantage_NT = tokens.advantage_NT if paid_NT is None else paid_NT
    return masked_loss(weight_NT, advantage_NT=advantage_NT, mask_NT=kept_NT)


def policy_weights(tokens: Tokens, weighting: Weighting) -> tuple[Tensor, Tensor]:
    """Weight of each token before and after its bounds, both [N, T]; any finite value off the mask.

    on-policy token: the ratio of the token, shaped by `on_policy_shaping`, or of its row; then the
        gate.
    off-policy token: `off_policy_shaping`, then clamped to the two bounds, never gated.

    A probability ceiling is not applied.
    """
    # Fill before exp: torch.where alone would let a NaN of the branch not taken into the gradient.
    mask_NT, off_NT = tokens.response_mask_NT.bool(), author_mask(tokens, weighting)
    is_off_NT, is_on_NT = mask_NT & off_NT, mask_NT & ~off_NT
    logprob_NT = tokens.logprob_NT
    on_logprob_NT = logprob_NT.masked_fill(~is_on_NT, 0.0)
    on_old_NT = tokens.old_logprob_NT.masked_fill(~is_on_NT, 0.0)
    if weighting.ratio == "sequence":
        on_weight_NT = sequence_ratio(on_logprob_NT, on_old_NT, is_on_NT)
    else:
        on_weight_NT = weighting.on_policy_shaping.on_policy(on_logprob_NT, on_old_NT)
    log_ratio_NT = logprob_NT - behaviour_logprob(tokens, weighting)
    off_weight_NT = weighting.off_policy_shaping.off_policy(
        log_ratio_NT.masked_fill(~is_off_NT, 0.0)
    )

    gated_on_NT = on_weight_NT
    if weighting.gate is not None:
        gated_on_NT = weighting.gate.weigh(
            on_weight_NT,
            logprob_NT=on_logprob_NT,
            old_logprob_NT=on_old_NT,
            advantage_NT=tokens.advantage_NT,
        )
    clamped_off_NT = _clamp(
        off_weight_NT, weighting.min_off_policy_weight, weighting.max_off_policy_weight
    )
    return (
        torch.where(is_off_NT, off_weight_NT, on_weight_NT),
        torch.where(is_off_NT, clamped_off_NT, gated_on_NT),
    )


def sequence_ratio(logprob_NT: Tensor, old_logprob_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """The ratio of each row, exp(mean of log p - log p_old over its masked tokens), [N, T].

    All tokens of a row have its value, and each the gradient by its own log-probability, so that
    divided by any number for the row they have the gradient of the row's ratio.
    Reference: GSPO, arXiv 2507.18071, equation 7 and section 4.3 (GSPO-token).
    """
    count_N1 = mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
    log_ratio_NT = (logprob_NT - old_logprob_NT).masked_fill(~mask_NT, 0.0)
    mean_N1 = log_ratio_NT.sum(dim=1, keepdim=True).detach() / count_N1
    return (mean_N1 + logprob_NT - logprob_NT.detach()).exp()


def author_mask(tokens: Tokens, weighting: Weighting) -> Tensor:
    """Given tokens whose weight is a ratio to their author, [N, T].

    There are none where `behaviour` is policy: a given token then weighs as a rollout token does.
    """
    given_NT = tokens.off_policy_mask_NT.bool()
    return torch.zeros_like(given_NT) if weighting.behaviour == "policy" else given_NT


def behaviour_logprob(tokens: Tokens, weighting: Weighting) -> Tensor:
    """Log-probability of given tokens under their author, [N, T]; 0 for a teacher taken as sure.

    mixture: that of (p_old + (p_old + 1) / 2) / 2, of RL-PLUS (arXiv 2508.00222).
    """
    recorded_NT = tokens.behaviour_logprob_NT
    match weighting.behaviour:
        case "recorded":
            return recorded_NT
        case "mixture":
            return ((3 * tokens.old_logprob_NT.exp() + 1) / 4).log()
        case _:
            return torch.zeros_like(recorded_NT)


def masked_loss(weight_NT: Tensor, *, advantage_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Minus advantage times weight inside the mask, 0 outside whatever the advantage is."""
    advantage_NT = advantage_NT.expand_as(weight_NT)
    return weight_NT * -advantage_NT.masked_fill(~mask_NT.bool(), 0.0)


def probability_ceiling_mask(logprob_NT: Tensor, max_probability: float | None) -> Tensor:
    """True on tokens that are not likelier than `max_probability` now, [N, T].

    This is the released `all_max_clip`. The released token mean divides by the tokens left; a run
    divides by all tokens, since its divisors are counted before the forward pass.
    """
    if max_probability is None:
        return torch.ones_like(logprob_NT, dtype=torch.bool)
    return ~(logprob_NT.detach().exp() > max_probability)


def sft_loss(*, logprob_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Minus the log-probability inside the mask, exactly 0 outside, [N, T]."""
    return -logprob_NT.masked_fill(~mask_NT.bool(), 0.0)


def _clamp(weight_NT: Tensor, low: float | None, high: float | None) -> Tensor:
    return weight_NT if low is None and high is None else weight_NT.clamp(low, high)
