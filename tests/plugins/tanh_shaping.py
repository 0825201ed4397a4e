"""A weight function that saturates: tanh(r / scale)."""

from dataclasses import dataclass

from torch import Tensor

from luffy_pl.bounds import bounded
from luffy_pl.objective.shaping import Shaping
from luffy_pl.registry import register


@register("shaping", "tanh")
@dataclass(frozen=True)
class Tanh(Shaping):
    """f(r) = tanh(r / scale)."""

    scale: float = bounded(0.1, above=0, at_most=1e6)
    """The ratio from which f flattens."""

    def off_policy(self, log_ratio_NT: Tensor) -> Tensor:
        """tanh(r / scale)."""
        return (log_ratio_NT.exp() / self.scale).tanh()
