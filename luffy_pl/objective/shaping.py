"""Weight functions: what a token counts for, given how likely the policy finds it.

Shapes in this file: N rows, T predictions; every function is elementwise.
Reference: Learning to Reason under Off-Policy Guidance (LUFFY), arXiv 2504.14945, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

ShapingKind = Literal["identity", "p_div_p", "clip", "power", "log", "p_plus_log"]


@dataclass(frozen=True)
class Shaping:
    """Which function f of the probability ratio r weighs a token."""

    kind: ShapingKind = "identity"
    """identity r; p_div_p r / (r + gamma); clip min(r, ceiling); power r^exponent; log and
    p_plus_log see `weight`."""
    gamma: float = 0.1
    """Of p_div_p, a probability: the ratio at which f is one half. Small lifts rare tokens."""
    ceiling: float = 0.2
    """Of clip, a probability: tokens above it weigh no more, and have no gradient."""
    exponent: float = 0.5
    """Of power, without unit: 0.5 is the square root, 1 is identity."""
    weight: float = 0.1
    """Of log (weight * log r) and p_plus_log (r + weight * log r), per nat."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ShapingKind):
            raise ValueError(f"kind is one of {', '.join(get_args(ShapingKind))}, not {self.kind}")
        for name in ("gamma", "ceiling", "exponent"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and above 0, not {getattr(self, name)}")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight must be finite and at least 0, not {self.weight}")


def shape_off_policy(log_ratio_NT: Tensor, shaping: Shaping) -> Tensor:
    """f(r) of a token somebody else wrote; r = exp(log_ratio), f as in `Shaping`.

    The slope of p_div_p in r is gamma / (r + gamma)^2: at gamma = 0.1 it is 8.26 for r = 0.01
    and 0.1 for r = 0.9, where the unshaped weight has 1 everywhere.

    Args:
        log_ratio_NT: nats, logprob - behaviour logprob. The behaviour logprob of a teacher of
            unknown probability is 0, so that r is the policy's own probability.
    """
    match shaping.kind:
        case "identity":
            return log_ratio_NT.exp()
        case "p_div_p":
            # r / (r + gamma), in a form that survives the overflow of r.
            return (log_ratio_NT - math.log(shaping.gamma)).sigmoid()
        case "clip":
            return log_ratio_NT.exp().clamp(max=shaping.ceiling)
        case "power":
            return (shaping.exponent * log_ratio_NT).exp()
        case "log":
            return shaping.weight * log_ratio_NT
        case "p_plus_log":
            return log_ratio_NT.exp() + shaping.weight * log_ratio_NT


def shape_on_policy(logprob_NT: Tensor, old_logprob_NT: Tensor, shaping: Shaping) -> Tensor:
    """f(r) of a token the policy sampled; r = exp(logprob - old_logprob).

    As `shape_off_policy`, with two exceptions the released code makes: p_div_p is f(p) / f(p_old)
    with f(x) = x / (x + gamma), which is 1 where the policy has not moved, and log has no weight.
    """
    log_ratio_NT = logprob_NT - old_logprob_NT
    if shaping.kind == "p_div_p":
        # Dividing the two sigmoids would be 0 / 0 where both probabilities underflow.
        correction_NT = (old_logprob_NT.exp() + shaping.gamma) / (logprob_NT.exp() + shaping.gamma)
        return log_ratio_NT.exp() * correction_NT
    if shaping.kind == "log":
        return log_ratio_NT
    return shape_off_policy(log_ratio_NT, shaping)
