"""A gate: a token whose ratio has left a range is left out, whatever its advantage (IcePop)."""

from dataclasses import dataclass

from torch import Tensor

from luffy_pl.bounds import bounded
from luffy_pl.objective.gate import Gate
from luffy_pl.registry import register


@register("gate", "range")
@dataclass(frozen=True)
class Range(Gate):
    """The ratio r where 1 / bound <= r <= bound, else 0."""

    bound: float = bounded(2.0, above=1, at_most=1e6)
    """The largest ratio; one over it is the smallest."""

    def weigh(
        self, ratio_NT: Tensor, *, logprob_NT: Tensor, old_logprob_NT: Tensor, advantage_NT: Tensor
    ) -> Tensor:
        """The weight of each rollout token, [N, T]."""
        is_inside_NT = (ratio_NT <= self.bound) & (ratio_NT >= 1 / self.bound)
        return ratio_NT.masked_fill(~is_inside_NT, 0.0)
