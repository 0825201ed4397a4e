"""How the gradient of the policy term divides between given tokens and the policy's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.objective.terms import weighted
from luffy_pl.objective.tokens import Tokens
from luffy_pl.records import Experience
from luffy_pl.training.minibatch import logprobs
from luffy_pl.training.module import LuffyModule


@dataclass(frozen=True)
class GradientParts:
    """Squared norms of the two gradients and their product, summed over ranks."""

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
        """Cosine of the angle between the two; None where one is 0."""
        norms = (self.given_squared * self.own_squared) ** 0.5
        return self.product / norms if norms > 0 else None


def gradient_parts(module: LuffyModule, experience: Experience) -> GradientParts:
    """Compute both gradients of the phase's first minibatch, before its update.

    Training is not affected: gradients, which are empty when a phase begins, are emptied again, and
    the random state that dropout draws from is restored. Every rank calls this together.
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
    """Compute the gradient of one kind of token's policy term: this rank's shards, by parameter."""
    module.policy.train()
    step = module.step_of(experience, rows)
    for found in module.micro_batches(experience, rows):
        # The pass is not counted: it is no work of the run.
        logprob_nt, entropy_nt = logprobs(module.policy, found)
        micro = found.rows
        old_nt = first_old_logprob(module, micro, logprob_nt)
        tokens = Tokens.of(
            micro,
            logprob_NT=logprob_nt,
            old_logprob_NT=old_nt,
            entropy_NT=entropy_nt,
            teacher_logprob_NT=old_nt,  # which adds nothing: this is about rewards
        )
        term_nt = weighted("policy", tokens, step)
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
