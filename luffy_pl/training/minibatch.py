"""Forward and backward of one optimizer step, micro-batch by micro-batch, without Lightning.

Shapes: N rows of this rank, n rows of a micro-batch, T predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.objective.terms import Coefficients, micro_batch_loss
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.policy import Policy
from luffy_pl.training.micro_batches import MicroBatch


@dataclass(frozen=True)
class Seen:
    """What the forward passes of a phase computed, each [N, T] in nats; filled in place."""

    logprob_NT: Tensor
    old_logprob_NT: Tensor
    entropy_NT: Tensor

    @classmethod
    def like(cls, values_NT: Tensor) -> Seen:
        """Zeros."""
        return cls(*(torch.zeros_like(values_NT) for _ in range(3)))


def logprobs(
    policy: Policy, micro: MicroBatch, *, forwards: ForwardCount | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy [n, T] of the masked predictions of a micro-batch.

    `forwards` counts the pass; None where it is no work of the run.
    """
    rows = micro.rows
    if forwards is not None:
        forwards.add(
            rows.num_tokens_N,
            rows.response_mask_NT.any(dim=1),
            trained=torch.is_grad_enabled(),
        )
    return policy(
        rows.token_ids_NL,
        rows.on_host.response_mask_NT,
        num_tokens=micro.num_tokens,
        num_shared=micro.num_shared,
        temperature=rows.temperature,
    )


def backward_micro_batches(
    policy: Policy,
    micros: Sequence[MicroBatch],
    *,
    forwards: ForwardCount,
    reference: Policy | None,
    objective: ObjectiveConfig,
    coefficients: Coefficients,
    totals: dict[str, Tensor],
    max_response_tokens: int,
    old_NT: Tensor,
    seen: Seen,
    backward: Callable[[Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Add the gradient of the micro-batches; returns each one's loss, and the sum of entropies.

    Args:
        forwards: counts the passes.
        old_NT: log-probability before the phase; NaN where it is the current one.
        totals: counts of `count_terms`, summed over ranks.
        backward: called with the loss of each micro-batch.
    """
    losses = torch.zeros(len(micros), dtype=torch.double, device=old_NT.device)
    entropy_sum = torch.zeros((), dtype=torch.double, device=old_NT.device)
    for number, micro in enumerate(micros):
        logprob_nt, entropy_nt = logprobs(policy, micro, forwards=forwards)
        width = logprob_nt.shape[1]
        old_nt = old_NT[micro.index_n, :width]
        old_nt = torch.where(old_nt.isnan(), logprob_nt.detach(), old_nt)
        reference_nt = None
        if reference is not None and coefficients.kl:
            with torch.no_grad():
                reference_nt, _ = logprobs(reference, micro, forwards=forwards)
        loss = micro_batch_loss(
            micro.rows,
            objective,
            logprob_nt=logprob_nt,
            entropy_nt=entropy_nt,
            old_logprob_nt=old_nt,
            reference_logprob_nt=reference_nt,
            coefficients=coefficients,
            totals=totals,
            max_response_tokens=max_response_tokens,
        )
        backward(loss)
        losses[number] = loss.detach()
        entropy_sum += entropy_nt.detach().sum()
        seen.logprob_NT[micro.index_n, :width] = logprob_nt.detach()
        seen.old_logprob_NT[micro.index_n, :width] = old_nt
        seen.entropy_NT[micro.index_n, :width] = entropy_nt.detach()
    return losses, entropy_sum
