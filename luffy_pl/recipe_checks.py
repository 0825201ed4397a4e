"""Settings of the two halves of a run that make no recipe together, refused before anything loads.

What one section can see of itself it checks itself: `data/settings.py`, `training/settings.py`.
"""

from __future__ import annotations

from typing import Any

from luffy_pl.errors import ConfigError


def check_recipe(config: Any) -> None:
    """Refuse an objective that no row of the phases serves."""
    objective, rollout = config.model.objective, config.data.rollout
    if rollout.overlap is not None:
        check_overlap(config)
    num_guided = rollout.expert_traces_per_group
    if num_guided and config.data.train is None:
        raise ConfigError(
            "data.train",
            f"is not set, and data.rollout.expert_traces_per_group={num_guided} needs its traces",
            fix="give data.train.path, or expert_traces_per_group: 0",
        )
    imitates = num_guided or rollout.sft_phases or rollout.imitation_buffer
    if objective.sft.coef > 0 and not imitates:
        raise ConfigError(
            "model.objective.sft.coef",
            f"imitates expert rows, and there are none: data.rollout.expert_traces_per_group="
            f"{num_guided}, sft_phases=0, imitation_buffer=null",
            value=objective.sft.coef,
            fix="set expert_traces_per_group: 1, or sft.coef: 0",
        )
    needs_imitation = rollout.sft_phases or rollout.imitation_buffer or rollout.routing
    if needs_imitation and objective.sft.coef == 0:
        raise ConfigError(
            "model.objective.sft.coef",
            "is 0, so what data.rollout.sft_phases, imitation_buffer or routing leave to imitation "
            "would teach nothing",
            value=0.0,
            fix="set sft.coef: 1.0",
        )
    if objective.off_policy.top_entropy_share is not None and not num_guided:
        raise ConfigError(
            "model.objective.off_policy.top_entropy_share",
            "chooses among expert tokens, and data.rollout.expert_traces_per_group=0",
            value=objective.off_policy.top_entropy_share,
            fix="set expert_traces_per_group: 1, or top_entropy_share: null",
        )


def check_overlap(config: Any) -> None:
    """Refuse to sample a phase while another trains where that would be wrong without a word."""
    objective, field = config.model.objective, "data.rollout.overlap"
    value = config.data.rollout.overlap
    if objective.on_policy.mismatch_cap is None and objective.old_logprob != "sampler":
        raise ConfigError(
            field,
            "samples from older weights than it trains, and nothing in the objective corrects it",
            value=value,
            fix="set model.objective.on_policy.mismatch_cap: 2.0, or old_logprob: sampler",
        )
    if objective.kl.coef > 0 and objective.kl.place == "reward":
        raise ConfigError(
            field,
            "collects a phase while the policy trains, and model.objective.kl.place=reward asks "
            "the policy about it",
            value=value,
            fix="set kl.place: loss, or overlap: null",
        )
    if config.data.engine.sleep_level:
        raise ConfigError(
            field,
            "samples while the policy trains, and data.engine.sleep_level puts the engine to sleep",
            value=value,
            fix="set data.engine.sleep_level: 0, or overlap: null",
        )
