"""A term of the loss: the policy imitates its own better answers, after VAPO (arXiv 2504.05118)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from luffy_pl.objective.terms import OptimizerStep
from luffy_pl.objective.tokens import Tokens
from luffy_pl.registry import register


@register("loss_term", "own_success")
@dataclass(frozen=True)
class OwnSuccess:
    """Negative log-likelihood of rollouts that are better than their group, over all tokens."""

    coef: float = 0.1
    divisor: ClassVar[str] = "tokens"

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """The value of each token, before divisor and coefficient."""
        is_own_NT = tokens.response_mask_NT & ~tokens.off_policy_mask_NT
        is_better_NT = is_own_NT & (tokens.advantage_N > 0)[:, None]
        return -tokens.logprob_NT.masked_fill(~is_better_NT, 0.0)
