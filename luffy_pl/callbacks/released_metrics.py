"""Rewards, lengths and loss terms under the names of the released code.

Curves can be laid over those of the paper. Unlike there, every value is a mean over all ranks,
and what nothing was counted for is left out instead of NaN.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor

from luffy_pl.callbacks.logging import log_phase, mean_over_ranks, pair, single
from luffy_pl.objective.distillation import with_teacher
from luffy_pl.objective.metrics import Pair, policy_metrics, teacher_pairs
from luffy_pl.objective.tokens import Weighting
from luffy_pl.records import Experience
from luffy_pl.training.minibatch import seen_tokens
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.optimizer import as_list


class ReleasedMetrics(L.Callback):
    """Logs one set of values per phase."""

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """Compute metrics from the batch and the outputs of the step."""
        pairs = {
            **actor_pairs(module, outputs, batch),
            **reward_pairs(batch),
            **length_pairs(batch),
            **group_pairs(batch),
        }
        values = mean_over_ranks(trainer, pairs)
        for name, optimizer in zip(
            ("actor/lr", "actor/sft_lr"), as_list(module.optimizers()), strict=False
        ):
            values[name] = optimizer.param_groups[0]["lr"]
        values["actor/entropy_coeff"] = module.entropy_controller.at(batch.phase)
        if module.objective.kl.coef > 0:
            values["actor/kl_coef"] = module.kl_controller.at(batch.phase)
        if module.kl_controller.kl_nats is not None:
            values["critic/kl"] = module.kl_controller.kl_nats
        values |= trainer.datamodule.planner.sizes()
        log_phase(trainer, values, phase=module.phases_trained)


def actor_pairs(module: LuffyModule, outputs: Any, batch: Experience) -> dict[str, Pair]:
    """Loss terms, probabilities and weights, as `actor/*`.

    A term of `model.objective.terms` has its mean before its coefficient in `actor/<name>_loss`,
    and so have the KL to the reference (`actor/kl_loss`) and what a teacher adds
    (`actor/distillation_loss`) where they are terms of the loss.
    """
    tokens = seen_tokens(batch, outputs)
    if module.objective.old_logprob == "sampler":
        # The engine has sampled none of these; 0 stands there, which is no log-probability.
        old_NT = tokens.old_logprob_NT.masked_fill(tokens.off_policy_mask_NT, math.nan)
        tokens = replace(tokens, old_logprob_NT=old_NT)
    tokens = with_teacher(tokens, module.objective, batch.phase)
    pairs = policy_metrics(tokens, Weighting.of(module.objective)) | teacher_pairs(tokens)
    pairs["grad_norm"] = pair(outputs["grad_norm"])
    for name, mean in outputs["term_means"].items():
        pairs[f"{name}_loss"] = single(mean, mean.device)
    return {f"actor/{name}": value for name, value in pairs.items()}


def reward_pairs(batch: Experience) -> dict[str, Pair]:
    """Rewards of all rows, of rollouts and of expert traces."""
    is_given_N = mask_given_rows(batch)
    return {
        "critic/rewards/mean": pair(batch.reward_N),
        "critic/advantages/mean": pair(batch.advantage_N),
        "on_off_metrics/on_score": pair(batch.reward_N, ~is_given_N),
        "on_off_metrics/off_score": pair(batch.reward_N, is_given_N),
        "on_off_metrics/off_on_example_ratio": (is_given_N.sum(), (~is_given_N).sum()),
    }


def length_pairs(batch: Experience) -> dict[str, Pair]:
    """Tokens of prompts and responses.

    clip_ratio is the share of rollouts that reached the length limit, avg_prefix_ratio the share
    of given tokens in a guided row.
    """
    is_given_N = mask_given_rows(batch)
    rows = [row for group in batch.groups for row in group.responses]
    device = batch.reward_N.device
    response_N = torch.tensor([float(len(row.token_ids)) for row in rows], device=device)
    given_N = torch.tensor([float(row.num_given) for row in rows], device=device)
    is_cut_N = torch.tensor([float(row.finish_reason == "length") for row in rows], device=device)
    return {
        "response_length/mean": pair(response_N),
        "response_length/clip_ratio": pair(is_cut_N, ~is_given_N),
        "on_off_metrics/on_response_length_mean": pair(response_N, ~is_given_N),
        "on_off_metrics/off_response_length_mean": pair(response_N, is_given_N),
        "prompt_length/mean": pair(batch.num_tokens_N - response_N),
        "batch/avg_prefix_ratio": pair(given_N / response_N, is_given_N),
    }


def group_pairs(batch: Experience) -> dict[str, Pair]:
    """Shares of groups that all rows solve, no row solves, and the expert alone solves."""
    num_groups = int(batch.group_N.max()) + 1
    rows = [row for group in batch.groups for row in group.responses]
    # Not the reward: a wrong answer may be paid for its form.
    solved_N = torch.tensor(
        [row.verdict.correct is True for row in rows], device=batch.group_N.device
    )
    is_given_N = mask_given_rows(batch)

    def count_G(of_N: Tensor) -> Tensor:
        return torch.zeros(num_groups, device=of_N.device).index_add(0, batch.group_N, of_N.float())

    solved_G, own_solved_G = count_G(solved_N), count_G(solved_N & ~is_given_N)
    is_graded_N = ~batch.reward_N.isnan()
    graded_G = count_G(is_graded_N)
    return {
        "batch/solve_none": pair((solved_G == 0).float(), graded_G > 0),
        "batch/solve_all": pair((solved_G == graded_G).float(), graded_G > 0),
        "batch/solved": pair(solved_N.float(), is_graded_N),
        "batch/on_solved": pair(solved_N.float(), is_graded_N & ~is_given_N),
        "batch/off_solved": pair(solved_N.float(), is_graded_N & is_given_N),
        "batch/only_expert_solves": pair(
            ((solved_G > 0) & (own_solved_G == 0)).float(), graded_G > 0
        ),
    }


def mask_given_rows(batch: Experience) -> Tensor:
    """True for rows that hold any given token, graded or not."""
    return torch.tensor(
        [row.source != "rollout" for group in batch.groups for row in group.responses],
        device=batch.reward_N.device,
    )
