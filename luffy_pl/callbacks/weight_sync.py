"""After each phase the engine gets the new weights, and has to prove it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.logging import log_phase, mean_over_ranks, pair
from luffy_pl.errors import EngineError
from luffy_pl.experience.collate import candidates
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.records import Completion, Experience
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.probe import beyond_windows, probe_completions
from luffy_pl.training.module import LuffyModule

FLOAT32_NATS, BFLOAT16_NATS = 1e-4, 0.5
"""What rounding makes of a log-probability."""


class WeightSync(L.Callback):
    """Copies the policy into the engine and compares log-probabilities on a probe.

    Args:
        tolerance_nats: largest difference between engine and trainer on the probe; null: 1e-4, or
            0.5 where the policy computes in bfloat16 (an engine in bfloat16 wants 0.5). Single
            tokens differ far more in bfloat16: 0.5 still catches a weight that did not arrive or
            lies wrong, which is off by nats; that the weights are the newest is checked by their
            version, and what a model does to its logits by the policy itself.
    """

    def __init__(self, tolerance_nats: float | None = None) -> None:
        if tolerance_nats is not None:
            check_bound("weight_sync.tolerance_nats", tolerance_nats, Bound(above=0, at_most=1e3))
        self.tolerance_nats = tolerance_nats

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Before the first rollout: a resumed policy is not the one on disk."""
        # Of a phase that was logged before the run went on from it, nothing is logged again.
        self.sync(trainer, module, is_logged=module.phases_trained == 0)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """After each phase."""
        self.log_staleness(trainer, module, batch)
        self.sync(trainer, module)

    def on_validation_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """A checkpoint that is only evaluated; during fit the engine is up to date."""
        if trainer.state.fn != "fit":
            self.sync(trainer, module)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def sync(self, trainer: L.Trainer, module: LuffyModule, *, is_logged: bool = True) -> None:
        """Copy, probe, log. Every rank runs the same collectives; all stop if one must."""
        data: LuffyDataModule = trainer.datamodule
        if self.tolerance_nats is None:
            self.tolerance_nats = usual_tolerance(module)
        started = time.monotonic()
        data.wait_for_rollouts()
        # Servers belong to all ranks: none may still sample from them, nor sample too early.
        trainer.strategy.barrier()
        lora = module.policy_config.lora
        # Several ranks make the weights together, and an engine breaks on one of them. Where phases
        # overlap they have moved on by then.
        is_alone = isinstance(trainer.strategy, SingleDeviceStrategy)
        weights = PolicyWeights(
            module.policy.state_dict(),
            prefix="language_model.",
            lora_scale=lora.scale if lora else None,
            is_repeatable=is_alone and data.rollout.overlap is None,
            conversion=module.policy.saved_conversion,
            dtype=getattr(torch, data.engine_config.dtype),
        )
        data.engine.load_weights(weights, policy_version=module.phases_trained)
        trainer.strategy.barrier()
        gap_nats = self.probe(module, data)
        # A maximum over ranks may lose a NaN, never an infinity.
        gap_nats = math.inf if math.isnan(gap_nats) else gap_nats
        gap = torch.tensor(gap_nats, device=module.device)
        worst = trainer.strategy.reduce(gap, reduce_op="max").item()
        values = {"sync/logprob_gap_nats": worst, "timing_s/sync": time.monotonic() - started}
        if is_logged:
            log_phase(trainer, values, phase=module.phases_trained)
        if worst > self.tolerance_nats:
            raise EngineError(
                "weight_sync.tolerance_nats",
                f"engine and trainer disagree by {worst:.3g} nats after a sync, more than "
                f"{self.tolerance_nats:g}",
                fix="find out which it is: weights did not arrive whole; the engine computes the "
                "model's logits or windows in another way than transformers (data.engine.kind=hf "
                "would agree); or rounding, where engine or policy is in bfloat16 (docs/models.md)",
            )

    def log_staleness(self, trainer: L.Trainer, module: LuffyModule, batch: Experience) -> None:
        """Age in phases of the weights that sampled the rows, relative to those they trained."""
        if batch.policy_version_N is None:
            return
        age_N = (batch.phase - batch.policy_version_N).double()
        pairs = {"sync/staleness_phases": pair(age_N, batch.policy_version_N >= 0)}
        log_phase(trainer, mean_over_ranks(trainer, pairs), phase=module.phases_trained)

    @torch.no_grad()
    def probe(self, module: LuffyModule, data: LuffyDataModule) -> float:
        """Largest difference in nats between the engine's log-probabilities and the trainer's."""
        prompt = data.probe_prompt().token_ids
        if windows := module.policy.windows:
            most = data.engine_config.max_model_len
            prompt = beyond_windows(prompt, windows, max_model_len=most)
        temperature = data.rollout.temperature
        completions = probe_completions(
            data.engine, prompt, temperature=temperature, seed=module.phases_trained
        )
        own = trainer_logprobs(module, prompt, completions, temperature=temperature)
        gaps = [
            (logprob_t - torch.tensor(completion.logprobs)).abs().max()
            for logprob_t, completion in zip(own, completions, strict=True)
        ]
        return torch.stack(gaps).max().item()


def usual_tolerance(module: LuffyModule) -> float:
    """How far rounding may take the probe, by what the policy computes in."""
    with module.policy.context():
        is_half = torch.is_autocast_enabled(torch.device(module.device).type)
    is_half |= any(weight.dtype != torch.float32 for weight in module.policy.parameters())
    return BFLOAT16_NATS if is_half else FLOAT32_NATS


def trainer_logprobs(
    module: LuffyModule,
    prompt: tuple[int, ...],
    completions: Sequence[Completion],
    *,
    temperature: float,
) -> list[torch.Tensor]:
    """The trainer's log-probability of each token of the completions, on the CPU."""
    rows = candidates([(prompt, one.token_ids) for one in completions], temperature=temperature)
    logprob_NT, _ = module.policy(
        rows.token_ids_NL.to(module.device),
        rows.response_mask_NT,
        num_tokens=rows.num_tokens_N.tolist(),
        temperature=temperature,
    )
    return [
        logprob_T[mask_T].cpu()
        for logprob_T, mask_T in zip(
            logprob_NT, rows.response_mask_NT.to(module.device), strict=True
        )
    ]
