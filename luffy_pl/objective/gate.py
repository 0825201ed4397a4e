"""Gates: how far the ratio of a rollout token may move before it stops to count.

Each kind is one frozen dataclass with one method; a plugin adds one in the same way. With one
optimizer step per phase every ratio is 1 and all kinds have the gradient of the plain ratio.

Shapes in this file: N rows, T predictions; every function is elementwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.registry import register


class Gate(ABC):
    """What becomes of the ratio of a rollout token.

    bounds: it leaves a ratio as it is, or changes it where it has moved too far; else it changes
        every ratio, so that no token is one that was clipped.
    """

    bounds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bounds(self)

    @abstractmethod
    def weigh(
        self, ratio_NT: Tensor, *, logprob_NT: Tensor, old_logprob_NT: Tensor, advantage_NT: Tensor
    ) -> Tensor:
        """The weight that the advantage is multiplied with, [N, T].

        Args:
            ratio_NT: to the policy before the phase, of the token or of its row, shaped.
            logprob_NT, old_logprob_NT: nats, of the token now and before the phase. Off the mask
                both are 0 and the ratio is 1.
            advantage_NT: without gradient, [N, T] or what is broadcast to it.
        """


def score(logprob_NT: Tensor) -> Tensor:
    """1, with the gradient of the log-probability: what a detached factor multiplies."""
    return (logprob_NT - logprob_NT.detach()).exp()


@register("gate", "clip")
@dataclass(frozen=True)
class PpoClip(Gate):
    """PPO's pessimistic minimum min(A r, A clip(r, 1 - low, 1 + high)), arXiv 1707.06347.

    DAPO raises the upper bound alone (0.2, 0.28).
    """

    low: float | None = bounded(0.2, at_least=0, at_most=1e6)
    """Distance from 1 below which a ratio earns no more where A < 0; null is off."""
    high: float | None = bounded(0.2, at_least=0, at_most=1e6)
    """Distance from 1 above which a ratio earns no more where A > 0; null is off."""

    def weigh(
        self, ratio_NT: Tensor, *, logprob_NT: Tensor, old_logprob_NT: Tensor, advantage_NT: Tensor
    ) -> Tensor:
        """The weight that the minimum picks: the upper bound counts where A > 0 alone."""
        upper_NT = ratio_NT if self.high is None else ratio_NT.clamp(max=1 + self.high)
        lower_NT = ratio_NT if self.low is None else ratio_NT.clamp(min=1 - self.low)
        return torch.where(advantage_NT >= 0, upper_NT, lower_NT)


@register("gate", "detached")
@dataclass(frozen=True)
class Detached(Gate):
    """sg(clip(r, 1 - low, 1 + high)) grad log p: a clipped token keeps a gradient (CISPO).

    MiniMax-M1, arXiv 2506.13585, equation 4.
    """

    low: float | None = bounded(None, at_least=0, at_most=1e6)
    """Distance from 1 below which the ratio is no smaller; null is off."""
    high: float | None = bounded(5.0, at_least=0, at_most=1e6)
    """Distance from 1 above which the ratio is no larger; null is off."""

    def weigh(
        self, ratio_NT: Tensor, *, logprob_NT: Tensor, old_logprob_NT: Tensor, advantage_NT: Tensor
    ) -> Tensor:
        """The clipped ratio, with the gradient of the log-probability."""
        bounded_NT = ratio_NT.detach()
        if self.high is not None:
            bounded_NT = bounded_NT.clamp(max=1 + self.high)
        if self.low is not None:
            bounded_NT = bounded_NT.clamp(min=1 - self.low)
        return bounded_NT * score(logprob_NT)


@register("gate", "soft")
@dataclass(frozen=True)
class Soft(Gate):
    """(4 / tau) sigmoid(tau (r - 1)): the slope is 1 at r = 1 and fades on both sides (SAPO).

    arXiv 2511.20347, section 3; tau is the larger the faster it fades.
    """

    bounds: ClassVar[bool] = False

    positive: float = bounded(1.0, above=0, at_most=1e3)
    """Tau where A > 0."""
    negative: float = bounded(1.05, above=0, at_most=1e3)
    """Tau elsewhere."""

    def weigh(
        self, ratio_NT: Tensor, *, logprob_NT: Tensor, old_logprob_NT: Tensor, advantage_NT: Tensor
    ) -> Tensor:
        """The gated ratio; at r = 1 it is 2 / tau, of which the value means nothing."""
        tau_NT = torch.full_like(advantage_NT, self.negative).masked_fill(
            advantage_NT > 0, self.positive
        )
        return 4 / tau_NT * (tau_NT * (ratio_NT - 1)).sigmoid()


@register("gate", "difference")
@dataclass(frozen=True)
class Difference(Gate):
    """sg(min(r, cap)) grad log p, dropped where p - p_old has moved too far with A (DPPO).

    arXiv 2602.04879: a ratio is large for any rare token; the difference bounds the total variation
    between the policies.
    """

    low: float | None = bounded(0.2, at_least=0, at_most=1)
    """A token with A < 0 is dropped where p - p_old is below minus this; null is off."""
    high: float | None = bounded(0.2, at_least=0, at_most=1)
    """A token with A > 0 is dropped where p - p_old is above this; null is off."""
    cap: float | None = bounded(20.0, above=0, at_most=1e6)
    """Largest ratio; null is off."""

    def weigh(
        self, ratio_NT: Tensor, *, logprob_NT: Tensor, old_logprob_NT: Tensor, advantage_NT: Tensor
    ) -> Tensor:
        """The capped ratio or 0, with the gradient of the log-probability."""
        capped_NT = ratio_NT.detach()
        if self.cap is not None:
            capped_NT = capped_NT.clamp(max=self.cap)
        moved_NT = logprob_NT.detach().exp() - old_logprob_NT.exp()
        if self.high is not None:
            capped_NT = capped_NT.masked_fill((advantage_NT > 0) & (moved_NT > self.high), 0.0)
        if self.low is not None:
            capped_NT = capped_NT.masked_fill((advantage_NT < 0) & (moved_NT < -self.low), 0.0)
        return capped_NT * score(logprob_NT)
