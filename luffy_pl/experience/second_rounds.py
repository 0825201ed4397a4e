"""Groups that failed are sampled again with help, such as a hint in the prompt.

Always as many rounds, some of them empty: an engine may be shared with a rank that needs more. They
belong to the round of sampling that they follow, so that a group is refilled
(`data.rollout.refill_tries`) only if help has not made it informative either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from luffy_pl.data.expert_traces import choose_traces
from luffy_pl.experience.guidance import Given, PrefixConfig, given_rows
from luffy_pl.experience.phases import Phase
from luffy_pl.experience.sampling import Collector, GroupSpec, group_of
from luffy_pl.guidance.hinter import SAMPLED, Hinter, all_failed, is_wrong
from luffy_pl.guidance.settings import GuidanceConfig
from luffy_pl.records import Group, Prompt, Response

Sample = Callable[[Sequence[GroupSpec]], list[Group]]


class SecondRound(Protocol):
    """What is done about groups that failed."""

    @property
    def num_rounds(self) -> int:
        """How often it is tried; the same on every rank."""
        ...

    def spec(self, prompt: Prompt, group: Group, place: int | str, number: int) -> GroupSpec | None:
        """What is sampled for a group in round `number`; None leaves the group as it is.

        Args:
            prompt: the plain one; that of the group may hold a hint by now.
        """
        ...

    def merged(self, group: Group, again: Group) -> Group:
        """The group with what was sampled for it."""
        ...


def sampled_again(
    prompts: Sequence[Prompt],
    groups: Sequence[Group],
    places: Sequence[int | str],
    second: SecondRound | None,
    sample: Sample,
) -> list[Group]:
    """The groups after all further rounds."""
    found = list(groups)
    for number in range(0 if second is None else second.num_rounds):
        assert second is not None
        specs = {
            index: spec
            for index, one in enumerate(zip(prompts, found, places, strict=True))
            if (spec := second.spec(*one, number)) is not None
        }
        again = sample(list(specs.values()))
        for index, group in zip(specs, again, strict=True):
            found[index] = second.merged(found[index], group)
    return found


def second_round(phase: Phase, collector: Collector) -> SecondRound | None:
    """What the settings say of groups that failed; None while nothing is sampled anyway."""
    rollout, hinter = collector.rollout, collector.hinter
    if phase.number < rollout.sft_phases:
        return None
    if rollout.prefix.when == "all_failed" and rollout.expert_traces_per_group:
        return BeginningAfterFailure(phase, collector)
    if hinter is not None and hinter.config.follows:
        return HintAfterFailure(hinter, phase, collector)
    return None


@dataclass(frozen=True)
class HintAfterFailure:
    """A hint for groups in which all rollouts failed; for `own_failure`, if so set, any of them."""

    hinter: Hinter
    phase: Phase
    collector: Collector

    @property
    def num_rounds(self) -> int:
        """A round for each share."""
        return len(self.hinter.config.share.tried)

    def spec(self, prompt: Prompt, group: Group, place: int | str, number: int) -> GroupSpec | None:
        """See `SecondRound.spec`."""
        config = self.hinter.config
        failed = all_failed if config.when == "all_failed" else any_failed
        num_rows = num_hinted(config, sum(may_be_replaced(row) for row in group.responses))
        if not num_rows or not failed(group):
            return None
        hint = self.hinter.hint(
            prompt,
            place=place,
            phase=self.phase.number,
            own_share=self.phase.shares.get("guidance"),
            traces=self.collector.traces.get(prompt.id, ()),
            level=number,
            failed=group,
        )
        if hint is None:
            return None
        spec = GroupSpec(prompt, f"{place}, hint {number}", hint=hint)
        if config.put_back == "hinted":
            return dataclasses.replace(spec, prompt=hint.prompt)
        return dataclasses.replace(spec, num_hinted=num_rows, num_rows=num_rows)

    def merged(self, group: Group, again: Group) -> Group:
        """See `SecondRound.merged`."""
        if self.hinter.config.put_back == "hinted":
            return again
        return replaced(group, again.responses, self.collector)


@dataclass(frozen=True)
class BeginningAfterFailure:
    """Rows that an expert began, for groups in which all rollouts failed (BREAD)."""

    phase: Phase
    collector: Collector

    @property
    def num_rounds(self) -> int:
        """A round for each share."""
        return len(self.collector.rollout.prefix.levels or (None,))

    def spec(self, prompt: Prompt, group: Group, place: int | str, number: int) -> GroupSpec | None:
        """See `SecondRound.spec`."""
        if not all_failed(group):
            return None
        rollout, own = self.collector.rollout, self.phase.shares.get("prefix")
        share = rollout.prefix.levels[number] if rollout.prefix.levels else None
        again = f"{place}, beginning {number}"
        given = begun_rows(
            prompt,
            again,
            self.phase.number,
            self.collector,
            prefix=rollout.prefix,
            num_rows=min(rollout.expert_traces_per_group, len(group.responses)),
            share=share if own is None else own(prompt.id),
        )
        return GroupSpec(prompt, again, given, num_rows=len(given)) if given else None

    def merged(self, group: Group, again: Group) -> Group:
        """See `SecondRound.merged`."""
        return replaced(group, again.responses, self.collector)


def begun_rows(
    prompt: Prompt,
    place: int | str,
    phase: int,
    collector: Collector,
    *,
    prefix: PrefixConfig,
    num_rows: int,
    share: float | None,
) -> tuple[Given, ...]:
    """The rows of a group that an expert wrote or began; none without a trace."""
    chosen = choose_traces(
        collector.traces.get(prompt.id, ()),
        num_rows,
        seed=collector.seed,
        phase=phase,
        prompt_id=prompt.id,
    )
    return given_rows(
        chosen,
        prefix,
        num_rows=num_rows,
        phase=phase,
        place=place,
        seed=collector.seed,
        prompt_id=prompt.id,
        max_tokens=collector.room_for_answer(prompt),
        share=share,
    )


def num_hinted(config: GuidanceConfig, num_free: int) -> int:
    """Rows of a group that are sampled under a hint and put back, of those that are sampled."""
    return num_free if config.rows is None else min(config.rows, num_free)


def may_be_replaced(row: Response) -> bool:
    """Whether a row gives its place to one with help: one of the policy's that is not right."""
    return row.source in SAMPLED and row.verdict.correct is not True


def any_failed(group: Group) -> bool:
    """Whether any row that the policy sampled is wrong."""
    return any(is_wrong(row) for row in group.responses)


def replaced(group: Group, rows: Sequence[Response], collector: Collector) -> Group:
    """The group with these rows in place of its last wrong ones; rewards are computed again."""
    places = [n for n, row in enumerate(group.responses) if may_be_replaced(row)][-len(rows) :]
    new = list(group.responses)
    for place, row in zip(places, rows, strict=True):
        new[place] = row
    return group_of(group.prompt, new, collector.reward_of)
