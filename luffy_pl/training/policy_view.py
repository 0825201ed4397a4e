"""What collecting a phase asks of the policy in training.

Shapes: N rows of this rank, n rows of a micro-batch, T predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.experience.collate import candidates
from luffy_pl.experience.policy_view import ScoredBy
from luffy_pl.objective.kl import kl_estimate
from luffy_pl.objective.settings import DistillationConfig, KlConfig
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Experience
from luffy_pl.training.controllers import KlController
from luffy_pl.training.micro_batches import MicroBatch
from luffy_pl.training.minibatch import logprobs


@dataclass(frozen=True)
class TrainedPolicyView:
    """The `PolicyView` of a policy in training. Every rank calls each method together.

    Args:
        frozen: holds the reference of the KL, if the run has one.
        kl, kl_controller: settings and current coefficient of the KL to the reference.
        distillation: what a teacher adds, if the run has one.
        forwards: counts the passes.
        micro_batches: cuts rows into what one forward pass takes, as many on every rank.
        sum_over_ranks: adds up a tensor over ranks.
    """

    policy: Policy
    frozen: FrozenModels
    kl: KlConfig
    kl_controller: KlController
    distillation: DistillationConfig | None
    forwards: ForwardCount
    device: torch.device
    micro_batches: Callable[[Experience, list[int]], list[MicroBatch]]
    sum_over_ranks: Callable[[Tensor], Tensor]

    def on_servers(self, phase: int) -> dict[ScoredBy, str]:
        """See `PolicyView.on_servers`."""
        found: dict[ScoredBy, str] = {}
        if self.frozen.is_served(self.kl.model) and self.kl_controller.at(phase):
            found["reference"] = self.kl.model
        teacher = self.distillation
        if teacher and self.frozen.is_served(teacher.model) and teacher.coefficient(phase):
            found["teacher"] = teacher.model
        return found

    @torch.no_grad()
    def reward_penalty(self, experience: Experience) -> Tensor | None:
        """Compute what each row's KL takes off its reward, [N]; None if `kl.place` is the loss.

        The controller is then updated with the mean over rows, of all ranks, of each row's mean.
        """
        if self.kl.place != "reward" or not self.kl.coef:
            return None
        passes = self.frozen.forwards(self.kl.model)
        on_device = experience.to(self.device)
        sums_N = torch.zeros(len(experience.reward_N), dtype=torch.double, device=self.device)
        for micro in self.micro_batches(on_device, list(range(len(sums_N)))):
            current_nt, _ = logprobs(self.policy, micro, forwards=self.forwards)
            reference_nt = micro.rows.reference_logprob_NT
            if reference_nt is None:
                with self.frozen.scoring(self.kl.model) as reference:
                    reference_nt, _ = logprobs(reference, micro, forwards=passes)
            difference_nt = kl_estimate(current_nt, reference_nt, self.kl.estimator)
            sums_N[micro.index_n] = difference_nt.sum(dim=1, dtype=torch.double)
        count_N = on_device.response_mask_NT.sum(dim=1)
        means_N = sums_N / count_N.clamp(min=1)
        summed = self.sum_over_ranks(torch.stack([means_N.sum(), (count_N > 0).sum().double()]))
        penalty_N = self.kl_controller.at(experience.phase) * sums_N.cpu()
        num_rows, kl_nats = int(summed[1].item()), summed[0].item()
        self.kl_controller.update(kl_nats / max(1, num_rows), num_rows=num_rows)
        return penalty_N.to(experience.reward_N.dtype)

    @torch.no_grad()
    def mean_entropies(
        self, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], *, temperature: float
    ) -> list[float]:
        """Compute the mean token entropy, in nats, of each (prompt, response).

        Every rank calls this with as many rows, since sharded weights are gathered for it.
        """
        if not rows:
            return []
        asked = candidates(rows, temperature=temperature).to(self.device)
        found = [0.0] * len(rows)
        for micro in self.micro_batches(asked, list(range(len(rows)))):
            _, entropy_nt = logprobs(self.policy, micro, forwards=self.forwards)
            mean_n = entropy_nt.sum(1) / micro.rows.response_mask_NT.sum(dim=1).clamp(min=1)
            for row, value in zip(micro.index_n.tolist(), mean_n, strict=False):
                found[row] = value.item()
        return found
