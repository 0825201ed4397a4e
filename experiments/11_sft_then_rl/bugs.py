"""Two bugs of supervised baselines, as arXiv 2604.23747 describes them, for `--plugin`.

A run has the one that it names: `--model.objective.terms.bug.kind mean_of_means` or
`later_dropped`. Only optimizer steps that imitate and nothing else have it; the RL that follows is
correct.

mean_of_means: each micro-batch's loss is the mean over its own tokens, and the step takes the mean
    of these means, so that a token of a short micro-batch counts more than one of a long one.
later_dropped: the gradient of every micro-batch but the first is lost. Divisors stay those of the
    whole step, as they do where the optimizer's offload loses gradients that were computed.

A micro-batch is here two rows in the order of the data, whatever `micro_batch_tokens` is: the
package fills micro-batches by length, which would decide what is lost.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

import luffy_pl.run.command as command
from luffy_pl.errors import ConfigError
from luffy_pl.objective.terms import OptimizerStep
from luffy_pl.objective.tokens import Tokens
from luffy_pl.registry import register
from luffy_pl.training.minibatch import BackwardPass
from luffy_pl.training.module import LuffyModule

BUGS = ("mean_of_means", "later_dropped")
ROWS = 2
"""Rows of a micro-batch."""


@register("loss_term", "bug")
@dataclasses.dataclass(frozen=True)
class Bug:
    """No term of the loss: it names the bug of a run, and its coefficient stays 0."""

    kind: str
    coef: float = 0.0
    divisor: ClassVar[None] = None

    def __post_init__(self) -> None:
        """Refuse what is no bug of this file."""
        if self.kind not in BUGS or self.coef:
            where = "model.objective.terms.bug"
            raise ConfigError(where, "is one of two bugs", value=self.kind, fix=" or ".join(BUGS))

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Nothing: a term whose coefficient is 0 is never asked."""
        return torch.zeros_like(tokens.logprob_NT)


class BuggySft(LuffyModule):
    """The module of a run whose imitation has the bug that its objective names."""

    def micro_batches(self, experience: Any, rows: list[int]) -> list[Any]:
        """The micro-batches of a step, without those whose gradient is lost."""
        kept = rows[:ROWS] if self._bug(experience) == "later_dropped" else rows
        return super().micro_batches(experience, kept)

    def _backward(self, experience: Any, rows: list[int], **parts: Any) -> BackwardPass:
        if self._bug(experience) != "mean_of_means":
            return super()._backward(experience, rows, **parts)
        # Each micro-batch as a step of its own has the mean over its own tokens.
        cut = [rows[first : first + ROWS] for first in range(0, len(rows), ROWS)]
        done = [super(BuggySft, self)._backward(experience, own, **parts) for own in cut]
        for weight in self.policy.trained_weights():
            if weight.grad is not None:
                weight.grad /= len(done)
        return BackwardPass(
            micros=[micro for one in done for micro in one.micros],
            losses=torch.cat([one.losses for one in done]) / len(done),
            entropy=sum(one.entropy for one in done),
            terms={
                name: sum(one.terms[name] for one in done) / len(done) for name in done[0].terms
            },
        )

    def _bug(self, experience: Any) -> str | None:
        named = self.objective.terms.get("bug")
        only_given = torch.equal(experience.response_mask_NT, experience.off_policy_mask_NT)
        return named["kind"] if named and only_given else None


# The command builds the module by this name.
command.LuffyModule = BuggySft
