"""What the policy still has to learn from the expert, and how strongly it pulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from luffy_pl.callbacks.logging import log_phase, mean_over_ranks, pair
from luffy_pl.errors import ConfigError
from luffy_pl.objective.loss import policy_weights
from luffy_pl.objective.metrics import Pair
from luffy_pl.objective.terms import author_mask, behaviour_logprob, policy_mask, policy_weighting
from luffy_pl.records import Experience
from luffy_pl.training.gradient_parts import GradientParts, gradient_parts
from luffy_pl.training.jsonl_logger import JsonlLogger
from luffy_pl.training.module import LuffyModule

NUM_BINS = 10


class ExpertMonitor(L.Callback):
    """Logs what is known of given tokens: expert, prefix or replay. Nothing where there are none.

    expert/nll_nats: imitation left, mean -log p of given tokens.
    expert/probability_hist/0.0 to /0.9: share of given tokens in each tenth of probability;
        expert/weight_hist/...: of those in the policy term, by their weight after shaping and
        clamping. A bin is named by its lower end; what lies outside 0 to 1 is in the first or
        last. Both are histograms in TensorBoard.
    expert/grad_norm_share, expert/grad_cosine: of the gradient of given tokens' part of the policy
        term against that of the others, on the phase's first minibatch before its update.

    Args:
        every_n_phases: phases between two looks at the gradient, each of which costs the first
            minibatch twice; null never looks. Training is the same either way.
    """

    def __init__(self, every_n_phases: int | None = None) -> None:
        if every_n_phases is not None and every_n_phases < 1:
            raise ConfigError(
                "expert.every_n_phases",
                "must be at least 1",
                value=every_n_phases,
                fix="raise it, or null",
            )
        self.every_n_phases = every_n_phases
        self.parts: GradientParts | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, module: LuffyModule, batch: Experience, index: int
    ) -> None:
        """Look at the gradient where it is due."""
        is_due = self.every_n_phases and module.phases_trained % self.every_n_phases == 0
        self.parts = gradient_parts(module, batch) if is_due else None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """One line of metrics per phase, and two histograms."""
        phase, given_NT = module.phases_trained, batch.off_policy_mask_NT
        logprob_NT = outputs["logprob_NT"]
        weighed_NT = given_NT & policy_mask(batch, module.objective.off_policy.policy_coef)
        histograms = {
            "probability": bin_pairs(logprob_NT.exp()[given_NT]),
            "weight": bin_pairs(token_weights(module, outputs, batch)[weighed_NT]),
        }
        named = {
            f"expert/{name}_hist/{number / NUM_BINS}": one
            for name, pairs in histograms.items()
            for number, one in enumerate(pairs)
        }
        nll = {"expert/nll_nats": pair(-logprob_NT, given_NT)}
        found = mean_over_ranks(trainer, {**nll, **named})
        shares = {name: found.pop(name) for name in named if name in found}
        values = {**found, **gradient_values(self.parts)}
        if values:
            log_phase(trainer, values, phase=phase)
        for logger in trainer.loggers:
            if isinstance(logger, JsonlLogger) and shares:
                logger.log_metrics(shares, step=phase)
            if isinstance(logger, TensorBoardLogger):
                draw_histograms(logger, shares, list(histograms), phase=phase)


def token_weights(module: LuffyModule, outputs: Any, batch: Experience) -> Tensor:
    """Weight of each token in the policy term, shaped and clamped, [N, T]."""
    _, weight_NT = policy_weights(
        logprob_NT=outputs["logprob_NT"],
        old_logprob_NT=outputs["old_logprob_NT"],
        behaviour_logprob_NT=behaviour_logprob(batch, module.objective),
        advantage_N=batch.advantage_N,
        response_mask_NT=batch.response_mask_NT,
        off_policy_mask_NT=author_mask(batch, module.objective),
        **policy_weighting(module.objective),
    )
    return weight_NT


def bin_pairs(value_M: Tensor) -> list[Pair]:
    """Values in each bin, and all of them."""
    bin_M = (value_M * NUM_BINS).long().clamp(0, NUM_BINS - 1)
    count_B = torch.bincount(bin_M, minlength=NUM_BINS)
    return [(count, count_B.sum()) for count in count_B]


def gradient_values(parts: GradientParts | None) -> dict[str, float]:
    """Metrics of a look at the gradient; what does not exist is left out."""
    if parts is None:
        return {}
    values = {"expert/grad_norm_share": parts.norm_share, "expert/grad_cosine": parts.cosine}
    return {name: value for name, value in values.items() if value is not None}


def draw_histograms(
    logger: TensorBoardLogger, shares: dict[str, float], names: Sequence[str], *, phase: int
) -> None:
    """Those that have a token, from the shares of their bins."""
    for name in names:
        prefix = f"expert/{name}_hist/"
        counts = [share for metric, share in shares.items() if metric.startswith(prefix)]
        if not counts:
            continue
        middles = [(number + 0.5) / NUM_BINS for number in range(NUM_BINS)]
        logger.experiment.add_histogram_raw(
            f"expert/{name}",
            min=0.0,
            max=1.0,
            num=1,
            sum=sum(c * m for c, m in zip(counts, middles, strict=True)),
            sum_squares=sum(c * m * m for c, m in zip(counts, middles, strict=True)),
            bucket_limits=[(number + 1) / NUM_BINS for number in range(NUM_BINS)],
            bucket_counts=counts,
            global_step=phase,
        )
