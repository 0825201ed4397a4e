"""How the gradient of the policy term divides between given tokens and the policy's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.objective.terms import policy_term
from luffy_pl.records import Experience
from luffy_pl.training.minibatch import logprobs
from luffy_pl.training.module import LuffyModule


@dataclass(frozen=True)
class GradientParts:
    """Squared norms and product of the two gradients, of all ranks."""

    given_squared: float
    own_squared: float
    product: float

    @property
    def norm_share(self) -> float | None:
        """|given| / (|given| + |own|); None where both are 0."""
        given, own = self.given_squared**0.5, self.own_squared**0.5
        return given / (given + own) if given + own > 0 else None

    @property
    def cosine(self) -> float | None:
        """Between the two; None where one is 0."""
        norms = (self.given_squared * self.own_squared) ** 0.5
        return self.product / norms if norms > 0 else None


def gradient_parts(module: LuffyModule, experience: Experience) -> GradientParts:
    """Of the phase's first minibatch, before its update; training goes on as if never asked.

    The gradients are what training would get, which has none when a phase begins; they are taken
    away again, and what dropout draws is put back. Every rank calls this together.
    """
    rows = (experience.step_N == 0).nonzero()[:, 0].tolist()
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        given = part_gradient(module, experience, rows, given=True)
    with torch.random.fork_rng(devices=devices):
        own = part_gradient(module, experience, rows, given=False)
    sums = torch.zeros(3, dtype=torch.double, device=module.device)
    for given_part, own_part in zip(given, own, strict=True):
        pairs = ((given_part, given_part), (own_part, own_part), (given_part, own_part))
        sums += torch.stack([(a.double() * b.double()).sum() for a, b in pairs]).to(sums.device)
    summed = module.trainer.strategy.reduce(sums, reduce_op="sum")
    return GradientParts(*summed.tolist())


def part_gradient(
    module: LuffyModule, experience: Experience, rows: list[int], *, given: bool
) -> list[Tensor]:
    """Gradient of the policy term of one kind of token: of each parameter this rank's shard."""
    module.policy.train()
    totals = module.term_totals(experience, rows)
    for found in module.micro_batches(experience, rows):
        # Not counted: what is only looked at is no work of the run.
        logprob_nt, entropy_nt = logprobs(module.policy, found)
        micro = found.rows
        term_nt = policy_term(
            micro,
            module.objective,
            logprob_nt=logprob_nt,
            entropy_nt=entropy_nt,
            old_logprob_nt=first_old_logprob(module, micro, logprob_nt),
            totals=totals,
            max_response_tokens=module.max_response_tokens,
        )
        part_nt = term_nt.masked_fill(micro.off_policy_mask_NT != given, 0.0)
        module.manual_backward(part_nt.sum() * module.trainer.world_size)
    gradient = [local_gradient(parameter) for parameter in module.policy.trained_weights()]
    for parameter in module.policy.trained_weights():
        parameter.grad = None
    return gradient


def first_old_logprob(module: LuffyModule, micro: Experience, logprob_nt: Tensor) -> Tensor:
    """Old log-probability of the first minibatch: the engine's, or the current one."""
    sampler_nt = micro.sampler_logprob_NT
    if module.objective.old_logprob == "sampler" and sampler_nt is not None:
        return sampler_nt
    return logprob_nt.detach()


def local_gradient(parameter: Tensor) -> Tensor:
    """This rank's shard of the gradient; zeros if there is none."""
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return (gradient.to_local() if hasattr(gradient, "to_local") else gradient).detach()
