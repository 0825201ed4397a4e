"""Weight functions: what a token counts for, given how likely the policy finds it.

Each kind is one frozen dataclass with two methods; a plugin adds one in the same way.

Shapes in this file: N rows, T predictions; every function is elementwise.
Reference: Learning to Reason under Off-Policy Guidance (LUFFY), arXiv 2504.14945, section 3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.registry import register


class Shaping(ABC):
    """A function f of the probability ratio r that weighs a token."""

    def __post_init__(self) -> None:
        check_bounds(self)

    @abstractmethod
    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """f(r) of a token that somebody else wrote, [N, T]; r = exp(log_ratio).

        Args:
            log_ratio_NT: nats, logprob - behaviour logprob. The behaviour logprob of a teacher of
                unknown probability is 0, so that r is the policy's own probability.
        """

    def on_policy(self, logprob_NT: Tensor, old_logprob_NT: Tensor) -> Tensor:
        """f(r) of a token that the policy sampled, [N, T]; r = exp(logprob - old_logprob)."""
        return self.off_policy(logprob_NT - old_logprob_NT)


@register("shaping", "identity")
@dataclass(frozen=True)
class Identity(Shaping):
    """f(r) = r: importance sampling without shaping."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """R."""
        return log_ratio_NT.exp()


@register("shaping", "p_div_p")
@dataclass(frozen=True)
class PDivP(Shaping):
    """f(r) = r / (r + gamma), LUFFY's policy shaping: rare tokens keep a large gradient.

    The slope in r is gamma / (r + gamma)^2: at gamma = 0.1 it is 8.26 for r = 0.01 and 0.1 for
    r = 0.9, where the unshaped weight has 1 everywhere.
    """

    gamma: float = bounded(0.1, above=0, at_most=1e6)
    """The ratio, a probability, at which f is one half. A small gamma lifts rare tokens."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """R / (r + gamma), in a form that survives the overflow of r."""
        return (log_ratio_NT - math.log(self.gamma)).sigmoid()

    def on_policy(self, logprob_NT: Tensor, old_logprob_NT: Tensor) -> Tensor:
        """f(p) / f(p_old) with f(x) = x / (x + gamma), as in the released code.

        It is 1 where the policy has not moved.
        """
        # Dividing the two sigmoids would be 0 / 0 where both probabilities underflow.
        correction_NT = (old_logprob_NT.exp() + self.gamma) / (logprob_NT.exp() + self.gamma)
        return (logprob_NT - old_logprob_NT).exp() * correction_NT


@register("shaping", "clip")
@dataclass(frozen=True)
class Clip(Shaping):
    """f(r) = min(r, ceiling)."""

    ceiling: float = bounded(0.2, above=0, at_most=1e6)
    """A probability; tokens above it weigh no more, and have no gradient."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """min(r, ceiling)."""
        return log_ratio_NT.exp().clamp(max=self.ceiling)


@register("shaping", "power")
@dataclass(frozen=True)
class Power(Shaping):
    """f(r) = r^exponent."""

    exponent: float = bounded(0.5, above=0, at_most=1e3)
    """Without unit: 0.5 is the square root, 1 is the identity."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """r^exponent."""
        return (self.exponent * log_ratio_NT).exp()


@register("shaping", "log")
@dataclass(frozen=True)
class Log(Shaping):
    """f(r) = weight * log r."""

    weight: float = bounded(0.1, at_least=0, at_most=1e6)
    """Factor per nat, of off-policy tokens alone: the released code has none on-policy."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """Weight * log r."""
        return self.weight * log_ratio_NT

    def on_policy(self, logprob_NT: Tensor, old_logprob_NT: Tensor) -> Tensor:
        """Log r."""
        return logprob_NT - old_logprob_NT


@register("shaping", "p_plus_log")
@dataclass(frozen=True)
class PPlusLog(Shaping):
    """f(r) = r + weight * log r."""

    weight: float = bounded(0.1, at_least=0, at_most=1e6)
    """Factor of the logarithm, per nat."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """R + weight * log r."""
        return log_ratio_NT.exp() + self.weight * log_ratio_NT
