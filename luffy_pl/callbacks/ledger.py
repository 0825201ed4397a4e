"""What a run has cost so far, so that methods can be compared at equal cost."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from luffy_pl.callbacks.logging import log_phase
from luffy_pl.callbacks.work import sampled_tokens, stage_seconds
from luffy_pl.policy.flops import model_size, sampling_flops, training_passes
from luffy_pl.records import Experience
from luffy_pl.training.module import LuffyModule


class Ledger(L.Callback):
    """Logs totals since the start of the run, over all ranks; they survive a resume.

    ledger/generated_tokens: sampled, for groups that were then replaced too.
    ledger/trained_rollout_tokens, ledger/trained_given_tokens: tokens with a loss that the policy
        sampled in their phase, and that it did not (expert, prefix, replay).
    ledger/optimizer_steps: those that `skip_grad_norm` left out count, for they were computed.
    ledger/model_flops: sampling, training, and the passes without gradient (old log-probabilities,
        those of frozen models, entropies of answers to replay); see `policy/flops.py`. A model on a
        server has done its own elsewhere, and nobody knows its size: they are not counted.
    ledger/seconds: of generating, scoring, asking servers and training, mean over ranks.

    An evaluation, the copying of weights with its probe, and a checkpoint are left out of all.
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """Add the phase, log the totals."""
        costs = phase_costs(module, outputs, batch)
        summed = trainer.strategy.reduce(
            torch.tensor(list(costs.values()), dtype=torch.double, device=module.device),
            reduce_op="sum",
        )
        # Each rank makes every step, and all of them at once.
        shared = {"optimizer_steps", "seconds"}
        for name, value in zip(costs, summed.tolist(), strict=True):
            share = value / trainer.world_size if name in shared else value
            self.totals[name] = self.totals.get(name, 0.0) + share
        values = {f"ledger/{name}": value for name, value in self.totals.items()}
        log_phase(trainer, values, phase=module.phases_trained)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self.totals)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with what a checkpoint holds."""
        self.totals = dict(state_dict)


def phase_costs(module: LuffyModule, outputs: Any, batch: Experience) -> dict[str, float]:
    """Counts of one phase on this rank."""
    given_NT = batch.off_policy_mask_NT
    return {
        "generated_tokens": float(sampled_tokens(batch)),
        "trained_rollout_tokens": (batch.response_mask_NT & ~given_NT).sum().item(),
        "trained_given_tokens": given_NT.sum().item(),
        "optimizer_steps": float(len(batch.step_imitates)),
        "model_flops": phase_flops(module, batch),
        "seconds": sum(stage_seconds(outputs, batch).values()),
    }


def phase_flops(module: LuffyModule, batch: Experience) -> float:
    """FLOPs of sampling, and of what went through the trainer since the last call."""
    size = model_size(module.policy.language_model)
    # Selective checkpointing repeats what is no matrix product: that is not counted anywhere.
    is_repeated = module.policy_config.activation_checkpointing is True
    passes = training_passes(
        activation_checkpointing=is_repeated, adapters=module.policy_config.lora is not None
    )
    return (
        sampling_flops(size, batch.sampled)
        + passes * size.forward_flops(*module.forwards.take(trained=True))
        + size.forward_flops(*module.forwards.take(trained=False))
        + module.frozen.take_flops()
    )
