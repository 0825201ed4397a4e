"""What a training set has to be for the phases asked of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from luffy_pl.data.prompts import PromptSet
from luffy_pl.errors import ConfigError, DataError, EngineError
from luffy_pl.experience.settings import RolloutConfig


def check_prompts(
    prompts: PromptSet, path: str, rollout: RolloutConfig, *, needs_logprobs: bool
) -> None:
    """Every prompt has an expert trace, if the recipe needs one, and they suffice for a phase.

    Args:
        path: of the set, for messages.
        needs_logprobs: whether the objective divides by the probabilities that an expert recorded.

    Raises:
        DataError: naming the first prompt without.
    """
    without = [p.id for p in prompts.prompts if not prompts.traces.get(p.id)]
    if without and rollout.needs_traces:
        raise DataError(
            path,
            f"{len(without)} prompts have no expert trace, the first is {without[0]!r}; "
            f"data.rollout.expert_traces_per_group={rollout.expert_traces_per_group}, "
            "sft_phases and imitation_buffer need one for each",
            fix="drop them with data.train.require_trace=true, or train without expert",
        )
    bare = [
        name for name, found in prompts.traces.items() if any(t.logprobs is None for t in found)
    ]
    if needs_logprobs and rollout.expert_traces_per_group and bare:
        raise DataError(
            path,
            f"{len(bare)} prompts have traces without recorded log-probabilities, the first is "
            f"{bare[0]!r}; model.objective.off_policy.behaviour=recorded divides by them",
            fix="name their column in data.train.columns.logprobs, or use behaviour: certain",
        )
    if len(prompts.prompts) < rollout.prompts_per_phase:
        dropped = "; ".join(
            f"{found.count} of {prompts.report.rows} rows dropped: {reason}, first {found.first[0]}"
            for reason, found in prompts.report.dropped.items()
        )
        raise DataError(
            path,
            f"fewer prompts than data.rollout.prompts_per_phase={rollout.prompts_per_phase}"
            + (f" ({dropped})" if dropped else ""),
            value=len(prompts.prompts),
            fix="correct data.train.columns or the rows"
            if dropped
            else "lower data.rollout.prompts_per_phase, or give more prompts",
        )


def check_ranks(rollout: RolloutConfig, *, num_ranks: int, steps_per_phase: int) -> None:
    """A minibatch is the same set of groups on any number of ranks, and none is without.

    Raises:
        ConfigError: it cannot be cut that way.
    """
    buffer = rollout.imitation_buffer
    if buffer is not None and buffer < num_ranks:
        # A rank without a row would make one optimizer step less than the others.
        raise ConfigError(
            "data.rollout.imitation_buffer",
            f"must be at least the number of ranks, {num_ranks}",
            value=buffer,
            fix="raise it",
        )
    share = num_ranks * steps_per_phase
    if rollout.prompts_per_phase % share:
        raise ConfigError(
            "data.rollout.prompts_per_phase",
            f"must be a multiple of ranks x model.optimizer.steps_per_phase = "
            f"{num_ranks} x {steps_per_phase}",
            value=rollout.prompts_per_phase,
            fix=f"use a multiple of {share}",
        )


def check_weights(policy_version: int, phase: int, *, max_staleness: int) -> None:
    """Refuse to sample a phase from weights other than those before it.

    Raises:
        EngineError: the engine was left with older weights, or has newer ones.
    """
    if not 0 <= phase - policy_version <= max_staleness:
        raise EngineError(
            "data.engine",
            f"rollouts of phase {phase} would come from other weights",
            value=f"policy_version={policy_version}",
            fix="keep the weight_sync callback in the trainer",
        )


def without_bad_golds(prompts: PromptSet, usable: Sequence[bool]) -> PromptSet:
    """Drop, and count, prompts whose gold no answer could ever be compared with."""
    kept = tuple(p for p, is_usable in zip(prompts.prompts, usable, strict=True) if is_usable)
    for prompt, is_usable in zip(prompts.prompts, usable, strict=True):
        if not is_usable:
            prompts.report.drop("bad_gold", prompt.id)
    prompts.report.prompts = len(kept)
    return dataclasses.replace(prompts, prompts=kept)
