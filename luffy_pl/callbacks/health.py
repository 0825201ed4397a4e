"""What went wrong in a phase without ending the run: counted, so that it can be seen to grow."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from luffy_pl.callbacks.hints import hint_pairs
from luffy_pl.callbacks.logging import log_phase, mean_over_ranks
from luffy_pl.callbacks.teacher_prompts import teacher_prompt_pairs
from luffy_pl.experience.collate import engine_logprobs
from luffy_pl.experience.collect import is_informative
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.objective.metrics import Pair
from luffy_pl.records import Experience, Group
from luffy_pl.training.module import LuffyModule

log = logging.getLogger(__name__)


class Health(L.Callback):
    """Shares of a phase, and counts of the run.

    rollout/empty: rollouts without a token of text. rollout/logprob_not_finite: sampled tokens
    whose log-probability the engine did not know. reward/frac_zero_std: graded groups whose rewards
    are all equal, which teach nothing. train/steps_left_out: optimizer steps that were not finite.
    rollout/engines_replaced: of this process. hint/*: what became of hints (`hint_pairs`).
    teacher/*: rows that no teacher scores (`teacher_prompt_pairs`).
    """

    def __init__(self) -> None:
        self.has_warned = False

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """One set of values per phase."""
        shares = group_shares(batch.groups, batch.reward_N.device)
        values = mean_over_ranks(
            trainer, {**shares, **hint_pairs(batch), **teacher_prompt_pairs(batch)}
        )
        values["train/steps_left_out"] = float(module.left_out.total)
        data: LuffyDataModule = trainer.datamodule
        values["rollout/engines_replaced"] = float(data.engine.num_replaced)
        log_phase(trainer, values, phase=module.phases_trained)
        if values.get("reward/frac_zero_std") == 1.0 and not self.has_warned:
            self.has_warned = True
            log.warning(
                "phase %d: in every group all rewards are equal, so no answer is better than "
                "another; easier or harder prompts, or data.rollout.refill_tries, would help",
                module.phases_trained,
            )


def group_shares(groups: Sequence[Group], device: torch.device) -> dict[str, Pair]:
    """Numerators and denominators of this rank."""
    rows = [row for group in groups for row in group.responses]
    sampled = [row for row in rows if row.source in ("rollout", "hinted")]
    empty = [len(row.token_ids) <= (row.finish_reason == "stop") for row in sampled]
    logprobs = [value for row in sampled for value in engine_logprobs(row)]
    graded = [group for group in groups if any(r is not None for r in group.rewards)]
    equal = [not is_informative(group) for group in graded]
    shares = {
        "rollout/empty": (sum(empty), len(empty)),
        "rollout/logprob_not_finite": (sum(not math.isfinite(v) for v in logprobs), len(logprobs)),
        "reward/frac_zero_std": (sum(equal), len(equal)),
    }
    return {
        name: (torch.tensor(count, device=device), torch.tensor(total, device=device))
        for name, (count, total) in shares.items()
    }
