"""The step before training, in one function: choose prompts, guide, sample, grade, compare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from luffy_pl.data.expert_traces import choose_traces
from luffy_pl.errors import DivergedError
from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.experience.guidance import Given, PrefixConfig, given_rows
from luffy_pl.experience.phases import Phase
from luffy_pl.experience.routing import routed, with_roles
from luffy_pl.experience.sampling import Collector, Request, Stopwatch, sample_groups
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.objective.advantage import Advantage
from luffy_pl.records import Experience, ExpertTrace, Group, Prompt
from luffy_pl.rollout.engine import Sampling

MAX_MISSING_SHARE = 0.01
"""Of the engine's log-probabilities of a phase."""


def collect_groups(
    phase: Phase,
    *,
    traces: Mapping[str, tuple[ExpertTrace, ...]],
    rollout: RolloutConfig,
    sampler_logprobs: bool,
    collector: Collector,
    stopwatch: Stopwatch,
) -> list[Group]:
    """The graded groups of a phase, before they are compared."""
    sampling = Sampling(
        max_tokens=rollout.max_response_tokens,
        temperature=rollout.temperature,
        logprobs=sampler_logprobs,
    )

    def sample(prompts: Sequence[Prompt], places: Sequence[int | str]) -> list[Group]:
        return sample_groups(
            [
                Request(
                    prompt,
                    place,
                    given_to(prompt, place, phase, traces, rollout, collector),
                    expected_tokens=max(
                        (len(trace.token_ids) for trace in traces.get(prompt.id, ())), default=None
                    ),
                )
                for prompt, place in zip(prompts, places, strict=True)
            ],
            group_size=num_rows(rollout, phase.number),
            phase=phase.number,
            sampling=sampling,
            collector=collector,
            stopwatch=stopwatch,
        )

    groups = sample(phase.prompts, phase.places)
    if rollout.refill_tries and phase.number >= rollout.sft_phases:
        groups = refilled(groups, phase.spare, tries=rollout.refill_tries, sample=sample)
    if phase.number < rollout.sft_phases:
        return [with_roles(group, rollouts="none", given="imitation") for group in groups]
    if rollout.routing is not None:
        return [routed(group, rollout.routing) for group in groups]
    return groups


def num_rows(rollout: RolloutConfig, phase: int) -> int:
    """Rows of a group: while the run only imitates, the expert's alone."""
    if phase < rollout.sft_phases:
        return max(1, rollout.expert_traces_per_group)
    return rollout.group_size


def given_to(
    prompt: Prompt,
    place: int | str,
    phase: Phase,
    traces: Mapping[str, tuple[ExpertTrace, ...]],
    rollout: RolloutConfig,
    collector: Collector,
) -> tuple[Given, ...]:
    """The rows of a group that are not, or not wholly, sampled."""
    if prompt.id in phase.replayed:
        return (phase.replayed[prompt.id],)
    imitates = phase.number < rollout.sft_phases
    num_given = num_rows(rollout, phase.number) if imitates else rollout.expert_traces_per_group
    if not num_given:
        return ()
    chosen = choose_traces(
        traces.get(prompt.id, ()),
        num_given,
        seed=collector.seed,
        phase=phase.number,
        prompt_id=prompt.id,
    )
    return given_rows(
        chosen,
        PrefixConfig() if imitates else rollout.prefix,
        num_rows=num_given,
        phase=phase.number,
        place=place,
        seed=collector.seed,
        prompt_id=prompt.id,
        max_tokens=rollout.max_response_tokens,
    )


def refilled(
    groups: Sequence[Group],
    spare: Sequence[Prompt],
    *,
    tries: int,
    sample: Callable[[Sequence[Prompt], Sequence[int | str]], list[Group]],
) -> list[Group]:
    """As many groups as before, uninformative ones replaced as far as `tries` and `spare` reach.

    Always `tries` rounds, some of them empty: an engine may be shared with a rank that needs more.
    """
    found = [group for group in groups if is_informative(group)]
    plain = [group for group in groups if not is_informative(group)]
    used = 0
    for attempt in range(tries):
        missing = len(groups) - len(found)
        prompts = spare[used : used + missing]
        used += len(prompts)
        places = [f"refill {attempt}, {number}" for number in range(len(prompts))]
        found += [group for group in sample(prompts, places) if is_informative(group)]
    return (found + plain)[: len(groups)]


def is_informative(group: Group) -> bool:
    """Whether rewards differ; otherwise every advantage is 0."""
    return len({reward for reward in group.rewards if reward is not None}) > 1


def compared(
    groups: Sequence[Group],
    imitated: Sequence[Group],
    *,
    phase: int,
    rollout: RolloutConfig,
    advantage: Advantage,
    steps_per_phase: int,
    stopwatch: Stopwatch,
) -> Experience:
    """The groups as one record; those of `imitated` get an optimizer step of their own."""
    check_logprobs(groups, phase=phase)
    num_imitated = len(groups) if phase < rollout.sft_phases else len(imitated)
    together = [*groups, *imitated]
    experience = collate(
        together,
        phase=phase,
        temperature=rollout.temperature,
        advantage=advantage,
        steps=plan_steps(len(together), steps_per_phase, num_imitated=num_imitated),
        timings_s=stopwatch.seconds,
    )
    return dataclasses.replace(experience, sampled=tuple(stopwatch.sampled))


def check_logprobs(groups: Sequence[Group], *, phase: int) -> None:
    """Refuse a phase in which the engine knew too few of its own log-probabilities.

    A single token is left out of the loss; many are a policy that has come apart.
    """
    logprobs = [
        value for group in groups for row in group.responses for value in row.logprobs or ()
    ]
    num_missing = sum(not math.isfinite(value) for value in logprobs)
    if num_missing > MAX_MISSING_SHARE * len(logprobs):
        raise DivergedError(
            f"phase {phase + 1}",
            f"{num_missing} of {len(logprobs)} log-probabilities of the engine are not finite",
            fix="lower model.optimizer.lr, or resume from an earlier checkpoint",
        )
