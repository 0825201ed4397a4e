"""What the policy still has to learn from the expert, and how strongly it pulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.logging import log_phase, mean_over_ranks, pair
from luffy_pl.objective.distillation import with_teacher
from luffy_pl.objective.loss import policy_weights
from luffy_pl.objective.metrics import Pair
from luffy_pl.objective.normalize import policy_mask
from luffy_pl.objective.tokens import Weighting
from luffy_pl.records import Experience
from luffy_pl.training.gradient_parts import GradientParts, gradient_parts
from luffy_pl.training.jsonl_logger import JsonlLogger
from luffy_pl.training.minibatch import seen_tokens
from luffy_pl.training.module import LuffyModule

NUM_BINS = 10


class ExpertMonitor(L.Callback):
    """Logs how the policy sees given tokens: expert, prefix or replay.

    expert/nll_nats: mean -log p of given tokens, what is left to imitate.
    expert/probability_hist/0.0 to /0.9: share of given tokens in each tenth of probability;
        expert/weight_hist/...: of those in the policy term, by their weight after shaping and
        clamping. A bin is named by its lower end; values outside 0 to 1 are in the first or last
        bin. Both are histograms in TensorBoard.
    expert/grad_norm_share, expert/grad_cosine: the policy term's gradient by given tokens against
        that by the others, on the phase's first minibatch before its update.

    Args:
        every_n_phases: phases between two looks at the gradient, each of which costs the first
            minibatch twice; null never looks. Training is the same either way.
    """

    def __init__(self, every_n_phases: int | None = None) -> None:
        check_bound("expert.every_n_phases", every_n_phases, Bound(at_least=1, at_most=1e9))
        self.every_n_phases = every_n_phases
        self.parts: GradientParts | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, module: LuffyModule, batch: Experience, index: int
    ) -> None:
        """Compute the gradient's parts in phases where that is due."""
        is_due = self.every_n_phases and module.phases_trained % self.every_n_phases == 0
        self.parts = gradient_parts(module, batch) if is_due else None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """Log one line of metrics per phase, and two histograms."""
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
    tokens = with_teacher(seen_tokens(batch, outputs), module.objective, batch.phase)
    _, weight_NT = policy_weights(tokens, Weighting.of(module.objective))
    return weight_NT


def bin_pairs(value_M: Tensor) -> list[Pair]:
    """Share of the values in each bin, as pairs."""
    bin_M = (value_M * NUM_BINS).long().clamp(0, NUM_BINS - 1)
    count_B = torch.bincount(bin_M, minlength=NUM_BINS)
    return [(count, count_B.sum()) for count in count_B]


def gradient_values(parts: GradientParts | None) -> dict[str, float]:
    """Metrics of the gradient's parts, without those that are undefined."""
    if parts is None:
        return {}
    values = {"expert/grad_norm_share": parts.norm_share, "expert/grad_cosine": parts.cosine}
    return {name: value for name, value in values.items() if value is not None}


def draw_histograms(
    logger: TensorBoardLogger, shares: dict[str, float], names: Sequence[str], *, phase: int
) -> None:
    """Draw the histograms that hold a token, from the shares of their bins."""
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
