"""Forward and backward of one optimizer step, micro-batch by micro-batch, without Lightning.

Shapes: N rows of this rank, n rows of a micro-batch, T predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from luffy_pl.objective.terms import OptimizerStep, micro_batch_loss
from luffy_pl.objective.tokens import Tokens
from luffy_pl.policy.divergence import Against, Divergence
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Experience
from luffy_pl.training.micro_batches import MicroBatch


@dataclass(frozen=True)
class Seen:
    """What the forward passes of a phase computed, each [N, T] in nats; filled in place."""

    logprob_NT: Tensor
    old_logprob_NT: Tensor
    entropy_NT: Tensor

    @classmethod
    def like(cls, values_NT: Tensor) -> Seen:
        """Make room for as many values, all 0."""
        return cls(*(torch.zeros_like(values_NT) for _ in range(3)))


@dataclass(frozen=True)
class Before:
    """Log-probabilities of a phase's tokens before its first update, each [N, T] in nats.

    old_NT: the policy's; NaN where it is the current one.
    reference_NT: the reference's; None unless the loss has a KL term.
    teacher_NT: a teacher's, of the tokens that it has a part in; None unless the loss distils.
    """

    old_NT: Tensor
    reference_NT: Tensor | None = None
    teacher_NT: Tensor | None = None

    def scores(self) -> dict[str, Tensor]:
        """What a training step puts out of them, by name."""
        return {} if self.teacher_NT is None else {"teacher_logprob_NT": self.teacher_NT}


def part(before_NT: Tensor | None, micro: MicroBatch, like_nt: Tensor) -> Tensor | None:
    """Values of a micro-batch, [n, T]; zeros for one that has a row here and none in the record."""
    if before_NT is None:
        return None
    if not len(micro.index_n):
        return torch.zeros_like(like_nt)
    return before_NT[micro.index_n, : like_nt.shape[1]]


def seen_tokens(rows: Experience, outputs: Mapping[str, Tensor]) -> Tokens:
    """Join collected rows with `Seen` as a training step puts it out, by name."""
    return Tokens.of(
        rows,
        logprob_NT=outputs["logprob_NT"],
        old_logprob_NT=outputs["old_logprob_NT"],
        entropy_NT=outputs["entropy_NT"],
        teacher_logprob_NT=outputs.get("teacher_logprob_NT"),
    )


@dataclass(frozen=True)
class BackwardPass:
    """What the passes of a minibatch computed beside gradients, on this rank.

    losses: the loss of each micro-batch.
    entropy: sum over tokens.
    terms: this rank's share of each term's mean, by name.
    """

    micros: Sequence[MicroBatch]
    losses: Tensor
    entropy: Tensor
    terms: dict[str, Tensor]


def logprobs(
    policy: Policy,
    micro: MicroBatch,
    *,
    forwards: ForwardCount | None = None,
    against: Against | None = None,
    balances: bool = False,
) -> tuple[Tensor, ...]:
    """Log-probability and entropy [n, T] of the masked predictions of a micro-batch.

    Args:
        forwards: counts the pass; None for one that is no work of the run.
        against: a teacher, the divergence from which is then a third.
        balances: whether the part of each token in the loss of the routers is the last.
    """
    rows = micro.rows
    if forwards is not None:
        count(micro, forwards, trained=torch.is_grad_enabled())
    return policy(
        rows.token_ids_NL,
        rows.on_host.response_mask_NT,
        num_tokens=micro.num_tokens,
        num_shared=micro.num_shared,
        temperature=rows.temperature,
        against=against,
        balances=balances,
    )


def count(micro: MicroBatch, forwards: ForwardCount, *, trained: bool) -> None:
    """Count a pass over a micro-batch."""
    rows = micro.rows
    forwards.add(rows.num_tokens_N, rows.response_mask_NT.any(dim=1), trained=trained)


def teacher_of(micro: MicroBatch, step: OptimizerStep, frozen: FrozenModels) -> Against | None:
    """The teacher of a divergence, having read a micro-batch; None if the loss has none."""
    config = step.objective.divergence
    if config is None or "divergence" not in step.terms:
        return None
    count(micro, frozen.forwards(config.model), trained=False)
    with frozen.scoring(config.model) as teacher:
        head = teacher.teacher_head(
            micro.rows.token_ids_NL,
            micro.rows.on_host.response_mask_NT,
            num_tokens=micro.num_tokens,
            num_shared=micro.num_shared,
        )
    return Against(head, Divergence(config.beta, config.top_k, config.tail))


def backward_micro_batches(
    policy: Policy,
    micros: Sequence[MicroBatch],
    *,
    step: OptimizerStep,
    forwards: ForwardCount,
    before: Before,
    frozen: FrozenModels,
    seen: Seen,
    backward: Callable[[Tensor], None],
) -> BackwardPass:
    """Add the gradient of the micro-batches to the parameters.

    Args:
        forwards: counts the passes.
        before: the first update of the phase.
        frozen: holds the teacher of a divergence.
        seen: gets what the passes computed.
        backward: called with the loss of each micro-batch.
    """
    losses = torch.zeros(len(micros), dtype=torch.double, device=before.old_NT.device)
    entropy_sum = torch.zeros((), dtype=torch.double, device=before.old_NT.device)
    term_sums = {name: torch.zeros_like(entropy_sum) for name in step.terms}
    balances = "router" in step.terms
    for number, micro in enumerate(micros):
        against = teacher_of(micro, step, frozen)
        with torch.set_grad_enabled(micro.is_learned):
            passed = logprobs(policy, micro, forwards=forwards, against=against, balances=balances)
        logprob_nt, entropy_nt, *more = passed
        width = logprob_nt.shape[1]
        old_nt = logprob_nt.detach()
        if len(micro.index_n):  # a silent micro-batch has a row here and none in the record
            before_nt = before.old_NT[micro.index_n, :width]
            old_nt = torch.where(before_nt.isnan(), old_nt, before_nt)
        tokens = Tokens.of(
            micro.rows,
            logprob_NT=logprob_nt,
            old_logprob_NT=old_nt,
            entropy_NT=entropy_nt,
            reference_logprob_NT=part(before.reference_NT, micro, old_nt),
            teacher_logprob_NT=part(before.teacher_NT, micro, old_nt),
            divergence_NT=None if against is None else more[0],
            balance_NT=more[-1] if balances else None,
        )
        loss, shares = micro_batch_loss(tokens, step)
        if micro.is_learned:
            backward(loss)
        losses[number] = loss.detach()
        entropy_sum += entropy_nt.detach().sum()
        for name, share in shares.items():
            term_sums[name] += share.detach()
        seen.logprob_NT[micro.index_n, :width] = logprob_nt.detach()
        seen.old_logprob_NT[micro.index_n, :width] = old_nt
        seen.entropy_NT[micro.index_n, :width] = entropy_nt.detach()
    if not all(micro.is_learned for micro in micros):
        make_steppable(policy)
    return BackwardPass(micros, losses, entropy_sum, term_sums)


def make_steppable(policy: Policy) -> None:
    """Let a step change all weights, after passes of which some had no backward one."""
    if isinstance(policy, FSDPModule):
        policy.reshard()  # embedding and head stay gathered after such a pass
    for weight in policy.trained_weights():
        if weight.grad is None:  # AdamW moves by its moments where the gradient is 0
            weight.grad = torch.zeros_like(weight)


def term_means(
    passes: Sequence[BackwardPass], names: Iterable[str], *, num_ranks: int
) -> dict[str, Tensor]:
    """Mean of each named term over the optimizer steps of a phase.

    A step's mean is the sum of what ranks contribute. The values returned are scaled so that it is
    their mean over ranks, which is how metrics are logged. A term whose coefficient was 0 has none.
    """
    return {
        name: num_ranks * torch.stack([one.terms[name] for one in passes]).mean()
        for name in names
        if all(name in one.terms for one in passes)
    }
