"""Collect a phase: from prompts to the record that the policy is trained on.

This is the way from the prompts of a phase to the weights that sample the next one. `collect_phase`
below has the steps from plan to compare, one a line, and is called by the data loader of
experience/datamodule.py; `LuffyModule.training_step` in training/module.py has those from cut to
update.

    prompts, traces     data/prompts.py, data/expert_traces.py
      |
      | plan            experience/phases.py: which prompts, which earlier answers are replayed
      v
    Phase
      |
      | guide           experience/collect.py: the rows of a group that an expert wrote or began,
      |                   their length by experience/guidance.py; hints by guidance/hinter.py,
      |                   what they say by guidance/hints.py
      v
    GroupSpec
      |
      | sample          experience/sampling.py -> rollout/supervised.py -> rollout/vllm_engine.py,
      |                   rollout/hf_engine.py or rollout/server_engine.py
      v
    Completion
      |
      | grade           experience/scoring.py -> reward/graders.py -> reward/math_verifier.py: right
      |                   or wrong, while the engine still samples; reward/terms.py: the reward
      v
    Group
      |
      | again           experience/second_rounds.py: groups that failed, with help
      | refill, route   experience/collect.py: groups that teach nothing are replaced;
      |                   experience/routing.py: which rows learn
      | teach           guidance/teacher_prompts.py: what a teacher sees beside the question
      | collate         experience/collate.py: rows padded to one record
      | ask             experience/served.py: teachers on servers score the tokens
      v
    Experience
      |
      | compare         experience/compare.py -> objective/advantage.py: reward against the group's,
      |                   less a KL to the reference by training/policy_view.py
      v
    Experience with advantages
      |
      | cut             training/micro_batches.py: rows of an optimizer step to forward passes
      | forward         training/minibatch.py -> policy/policy.py: log-probability of each token
      | loss            objective/terms.py -> objective/loss.py: every term of the loss;
      |                   objective/normalize.py: their divisors
      | update          training/optimizer.py: gradients clipped, a step of AdamW
      v
    new weights
      |
      | sync            callbacks/weight_sync.py -> rollout/policy_weights.py: into the engine,
      v                   proved by rollout/probe.py
    the next phase
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from luffy_pl.data.seeds import seed_generators
from luffy_pl.errors import DivergedError
from luffy_pl.experience.checks import check_weights
from luffy_pl.experience.collate import Steps, collate, engine_logprobs, plan_steps
from luffy_pl.experience.compare import compare
from luffy_pl.experience.guidance import Given, PrefixConfig
from luffy_pl.experience.phases import Phase, PhasePlanner
from luffy_pl.experience.policy_view import PolicyView
from luffy_pl.experience.routing import with_roles
from luffy_pl.experience.sampling import Collector, GroupSpec, Stopwatch, sample_groups
from luffy_pl.experience.second_rounds import (
    begun_rows,
    num_hinted,
    sampled_again,
    second_round,
)
from luffy_pl.experience.served import scored_by_servers
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.objective.advantage import Advantage
from luffy_pl.records import Experience, Group, Prompt

MAX_MISSING_SHARE = 0.01
"""Share of the engine's log-probabilities of a phase."""

Made = TypeVar("Made")


class Together(Protocol):
    """Does work that one rank may be asked to stop, and stops it on all."""

    def __call__(self, work: Callable[[], Made], /) -> Made:
        """What the work returns."""
        ...


def collect_phase(
    phase: int,
    *,
    planner: PhasePlanner,
    collector: Collector,
    policy: PolicyView | None,
    advantage: Advantage,
    steps_per_phase: int,
    together: Together,
) -> Experience:
    """Collect one rank's share of a phase.

    Args:
        policy: answers what is asked of the weights; None outside of a fit.
        together: for work before anything is learned from the phase.
    """
    rollout, stopwatch = collector.rollout, Stopwatch()
    check_weights(collector.engine.policy_version, phase, max_staleness=rollout.max_staleness)
    seed_generators(collector.seed, "collect", phase, planner.rank)
    plan = planner.plan(phase, view=policy)

    def sample(prompts: Sequence[Prompt], places: Sequence[int | str]) -> list[Group]:
        def sampled(specs: Sequence[GroupSpec]) -> list[Group]:
            return sample_groups(specs, phase, collector, stopwatch)  # each is graded at once

        groups = sampled(guide(prompts, places, plan, collector))
        second = second_round(plan, collector)
        return sampled_again(prompts, groups, places, second, sampled)

    def sample_and_refill() -> list[Group]:
        groups = sample(plan.prompts, plan.places)
        return refilled(groups, plan.spare, tries=refill_tries(rollout, phase), sample=sample)

    groups = routed(together(sample_and_refill), rollout, phase)
    collector.engine.sleep()
    imitated = planner.imitated(groups, phase)
    if collector.teacher_prompter is not None:
        groups = collector.teacher_prompter.taught(groups, collector.traces, phase=phase)
    check_logprobs(groups, phase=phase)
    experience = collate(
        [*groups, *imitated],
        phase=phase,
        temperature=rollout.temperature,
        steps=steps_of(groups, imitated, phase, rollout, steps_per_phase=steps_per_phase),
        masks_truncated=advantage.truncated == "mask",
        teacher_sees_more=collector.teacher_prompter is not None,
    )
    if policy is None:
        compared = compare(experience, None, advantage)
    else:
        experience = with_server_scores(experience, policy, collector, stopwatch, together)
        compared = compare(
            experience,
            policy.reward_penalty(experience),
            advantage,
            sum_over_ranks=policy.sum_over_ranks,
        )
    hints = {} if collector.hinter is None else collector.hinter.taken()
    return stopwatch.written_to(dataclasses.replace(compared, hints=hints))


def with_server_scores(
    experience: Experience,
    policy: PolicyView,
    collector: Collector,
    stopwatch: Stopwatch,
    together: Together,
) -> Experience:
    """Add what models on servers say of the tokens; every rank asks in the same phases."""
    names = policy.on_servers(experience.phase) if collector.servers else {}
    if not names:
        return experience

    def ask() -> Experience:
        return scored_by_servers(
            experience,
            names,
            collector.servers,
            lambda done, total: collector.on_progress("ask", done, total),
        )

    found = together(ask)
    stopwatch.lap("ask")
    return found


def guide(
    prompts: Sequence[Prompt],
    places: Sequence[int | str],
    phase: Phase,
    collector: Collector,
) -> list[GroupSpec]:
    """Choose the given rows of each prompt's group.

    Args:
        places: of each prompt in the phase, over all ranks.
    """
    return [
        with_hint(
            GroupSpec(
                prompt,
                place,
                given_to(prompt, place, phase, collector),
                expected_tokens=max(
                    (len(trace.token_ids) for trace in collector.traces.get(prompt.id, ())),
                    default=None,
                ),
            ),
            phase,
            collector,
        )
        for prompt, place in zip(prompts, places, strict=True)
    ]


def with_hint(spec: GroupSpec, phase: Phase, collector: Collector) -> GroupSpec:
    """The group with the hint that it has from the start, where the settings say so."""
    hinter, rollout = collector.hinter, collector.rollout
    if hinter is None or hinter.config.follows or phase.number < rollout.sft_phases:
        return spec
    prompt = spec.prompt
    traces = collector.traces.get(prompt.id, ())
    hint = hinter.hint(
        prompt,
        place=spec.place,
        phase=phase.number,
        own_share=phase.shares.get("guidance"),
        traces=traces,
    )
    if hint is None:
        return spec
    if hinter.config.put_back == "hinted":
        return dataclasses.replace(spec, prompt=hint.prompt, hint=hint)
    num_rows = num_hinted(hinter.config, rollout.num_rows(phase.number) - len(spec.given))
    return dataclasses.replace(spec, hint=hint, num_hinted=num_rows)


def given_to(
    prompt: Prompt, place: int | str, phase: Phase, collector: Collector
) -> tuple[Given, ...]:
    """Return the rows of a group that are not, or not wholly, sampled."""
    if prompt.id in phase.replayed:
        return (phase.replayed[prompt.id],)
    rollout = collector.rollout
    imitates = phase.number < rollout.sft_phases
    num_given = rollout.num_rows(phase.number) if imitates else rollout.expert_traces_per_group
    if not num_given or (rollout.prefix.when == "all_failed" and not imitates):
        return ()
    own = phase.shares.get("prefix")
    return begun_rows(
        prompt,
        place,
        phase.number,
        collector,
        prefix=PrefixConfig() if imitates else rollout.prefix,
        num_rows=num_given,
        share=None if own is None or imitates else own(prompt.id),
    )


def refilled(
    groups: Sequence[Group],
    spare: Sequence[Prompt],
    *,
    tries: int,
    sample: Callable[[Sequence[Prompt], Sequence[int | str]], list[Group]],
) -> list[Group]:
    """Replace uninformative groups, as far as `tries` and `spare` reach; their number stays.

    Always `tries` rounds, some of them empty: an engine may be shared with a rank that needs more.
    """
    if not tries:
        return list(groups)
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


def refill_tries(rollout: RolloutConfig, phase: int) -> int:
    """Count the rounds in which groups are replaced; none while the run only imitates."""
    return 0 if phase < rollout.sft_phases else rollout.refill_tries


def is_informative(group: Group) -> bool:
    """Whether rewards differ; otherwise every advantage is 0."""
    return len({reward for reward in group.rewards if reward is not None}) > 1


def routed(groups: Sequence[Group], rollout: RolloutConfig, phase: int) -> list[Group]:
    """Decide which rows of each group learn: the router's choice, or all of them."""
    if phase < rollout.sft_phases:
        return [with_roles(group, rollouts="none", given="imitation") for group in groups]
    router = rollout.routing
    return list(groups) if router is None else [router.route(group) for group in groups]


def steps_of(
    groups: Sequence[Group],
    imitated: Sequence[Group],
    phase: int,
    rollout: RolloutConfig,
    *,
    steps_per_phase: int,
) -> Steps:
    """Plan the optimizer steps of a phase; the groups of `imitated` get a step of their own."""
    num_imitated = len(groups) if phase < rollout.sft_phases else len(imitated)
    return plan_steps(len(groups) + len(imitated), steps_per_phase, num_imitated=num_imitated)


def check_logprobs(groups: Sequence[Group], *, phase: int) -> None:
    """Refuse a phase in which the engine knew too few of its own log-probabilities.

    A single token is left out of the loss; many are a policy that has come apart.
    """
    rows = [row for group in groups for row in group.responses]
    logprobs = [value for row in rows for value in engine_logprobs(row)]
    num_missing = sum(not math.isfinite(value) for value in logprobs)
    if num_missing > MAX_MISSING_SHARE * len(logprobs):
        raise DivergedError(
            f"phase {phase + 1}",
            f"{num_missing} of {len(logprobs)} log-probabilities of the engine are not finite",
            fix="lower model.optimizer.lr, or resume from an earlier checkpoint",
        )
