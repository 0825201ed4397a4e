"""From prompts to graded groups: sampled rows beside given ones, all graded alike."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from luffy_pl.data.seeds import keyed_seed
from luffy_pl.experience.guidance import Given
from luffy_pl.experience.scoring import (
    Draft,
    RowKey,
    Scoring,
    continued,
    put_back,
    rollout,
    text_of,
)
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.hinter import Hinter
from luffy_pl.guidance.teacher_prompts import TeacherPrompter
from luffy_pl.records import (
    Completion,
    Experience,
    ExpertTrace,
    Group,
    Hint,
    Progress,
    Prompt,
    Response,
    Sampled,
)
from luffy_pl.reward.reward import Verifier
from luffy_pl.reward.terms import RewardFunction, correctness
from luffy_pl.rollout.engine import Request, RolloutEngine, Sampling
from luffy_pl.rollout.scoring_server import ScoringServer

StageProgress = Callable[[str, int, int], None]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Collector:
    """Everything that groups are sampled and graded with, beside their prompts.

    rollout, traces, sampler_logprobs: of training alone; traces are by prompt id, and
        `sampler_logprobs` says whether the engine is asked for its log-probabilities.
    max_model_len: tokens of prompt and answer together; None sets no limit.
    hinter: makes hints; None without guidance.
    servers: those of `model.frozen` by name, which score rows.
    """

    engine: RolloutEngine
    verifier: Verifier
    decode: Decode
    reward_of: RewardFunction = correctness
    seed: int = 0
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    traces: Mapping[str, tuple[ExpertTrace, ...]] = field(default_factory=dict)
    sampler_logprobs: bool = False
    max_model_len: int | None = None
    hinter: Hinter | None = None
    teacher_prompter: TeacherPrompter | None = None
    servers: Mapping[str, ScoringServer] = field(default_factory=dict)
    on_progress: StageProgress = lambda stage, done, total: None

    def room_for_answer(self, prompt: Prompt) -> int:
        """Tokens of the longest response that the settings and the engine's window allow."""
        longest = self.rollout.max_response_tokens
        if self.max_model_len is None:
            return longest
        return min(longest, self.max_model_len - len(prompt.token_ids))

    def show_scoring(self, done: int, total: int) -> None:
        """Progress of the stage that follows sampling."""
        self.on_progress("score", done, total)


@dataclass(frozen=True)
class GroupSpec:
    """One group to make: a prompt, and the rows that are given instead of sampled.

    `place` is that of the prompt in the phase, over all ranks. It is part of the sampling seeds: a
    phase that spans two epochs may hold a prompt twice. `expected_tokens` is a guess at the length
    of an answer, from the prompt's traces; None where there is none. `num_rows` are those of the
    group; None takes the phase's. `hint` is what helps: `prompt` holds it for all rows, or, where
    `num_hinted` is set, so many rows before the given ones are sampled under `hint.prompt` instead.
    """

    prompt: Prompt
    place: int | str
    given: tuple[Given, ...] = ()
    expected_tokens: int | None = None
    num_rows: int | None = None
    hint: Hint | None = None
    num_hinted: int = 0


@dataclass
class Stopwatch:
    """Seconds spent in the stages of a phase, and what the engine sampled in them.

    `score` is what is left to grade when the engine is done: until then both go on together.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    sampled: list[Sampled] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as `stage`'s."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last = now

    def written_to(self, experience: Experience) -> Experience:
        """Return the record with what was measured."""
        return dataclasses.replace(
            experience, timings_s=dict(self.seconds), sampled=tuple(self.sampled)
        )


def sample_groups(
    specs: Sequence[GroupSpec], phase: int, collector: Collector, stopwatch: Stopwatch
) -> list[Group]:
    """Sample and grade a group for each spec; its rollouts come before its given rows."""
    rollout = collector.rollout
    sizes = [spec.num_rows or rollout.num_rows(phase) for spec in specs]
    sampling = Sampling(temperature=rollout.temperature, logprobs=collector.sampler_logprobs)
    asked = [
        row
        for number, (spec, size) in enumerate(zip(specs, sizes, strict=True))
        for row in _asked(number, spec, size, rollout.max_response_tokens, collector.seed, phase)
    ]
    with Scoring(collector.verifier) as scoring:
        for number, (spec, size) in enumerate(zip(specs, sizes, strict=True)):
            _hand_in_given(number, spec, size, collector, scoring)
        completions = _sample(
            asked,
            sampling,
            collector,
            scoring,
            on_progress=lambda done, total: collector.on_progress("generate", done, total),
        )
        stopwatch.sampled += [
            Sampled(len(row.request.token_ids), tuple(len(one.token_ids) for one in own))
            for row, own in zip(asked, completions, strict=True)
        ]
        stopwatch.lap("generate")
        responses = scoring.responses(collector.show_scoring)
    stopwatch.lap("score")
    return [
        group_of(
            spec.prompt,
            [responses[number, row] for row in range(size)],
            collector.reward_of,
        )
        for number, (spec, size) in enumerate(zip(specs, sizes, strict=True))
    ]


def answered(
    prompts: Sequence[Prompt],
    seeds_PS: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    sampling: Sampling,
    collector: Collector,
    on_progress: Progress,
) -> list[Group]:
    """Answer and grade each prompt, once for each of its seeds; the collector's reward is paid."""
    asked = [
        _Asked(
            number,
            prompt,
            range(len(seeds)),
            Request(prompt.token_ids, tuple(seeds), max_tokens),
        )
        for number, (prompt, seeds) in enumerate(zip(prompts, seeds_PS, strict=True))
    ]
    with Scoring(collector.verifier) as scoring:
        _sample(asked, sampling, collector, scoring, on_progress=on_progress)
        responses = scoring.responses(collector.show_scoring)
    return [
        group_of(
            row.prompt,
            [responses[row.number, place] for place in row.rows],
            collector.reward_of,
        )
        for row in asked
    ]


def group_of(prompt: Prompt, responses: Sequence[Response], reward_of: RewardFunction) -> Group:
    """A group with the reward of each response."""
    return Group(
        prompt=prompt,
        responses=tuple(responses),
        rewards=reward_of(prompt, responses),
    )


@dataclass(frozen=True)
class _Asked:
    """What the engine is asked for, and where its answers belong: rows `rows` of group `number`."""

    number: int
    prompt: Prompt
    rows: Sequence[int]
    request: Request
    given: Given | None = None
    expected_tokens: int | None = None
    hint: Hint | None = None
    is_put_back: bool = False

    @property
    def begins_after(self) -> int:
        """Key of the order in which requests are begun: those that may be long come first.

        A batch ends with its longest answer. Without a guess an answer may need all of its limit.
        """
        if self.expected_tokens is None:
            return -self.request.max_tokens
        num_given = 0 if self.given is None else len(self.given.token_ids)
        return -min(self.request.max_tokens, self.expected_tokens - num_given)

    def draft(self, completion: Completion, decode: Decode) -> Draft:
        """The row that a completion makes."""
        if self.is_put_back and self.hint is not None:
            return put_back(completion, self.hint, decode)
        if self.given is None:
            return dataclasses.replace(rollout(completion, decode), hint=self.hint)
        return continued(_given_draft(self.given, decode), completion, decode)


def _asked(
    number: int,
    spec: GroupSpec,
    group_size: int,
    max_tokens: int,
    seed: int,
    phase: int,
) -> list[_Asked]:
    """The free rollouts of a group, those under a hint, then each row that somebody else began.

    A seed is one of this run, phase, prompt, place and row.
    """
    prompt, num_free = spec.prompt, group_size - len(spec.given)
    num_plain = num_free - spec.num_hinted
    key = (seed, "rollout", phase, spec.place, prompt.id)
    seeds = tuple(keyed_seed(*key, row) for row in range(group_size))
    free = _Asked(
        number,
        prompt,
        range(num_plain),
        Request(prompt.token_ids, seeds[:num_plain], max_tokens),
        expected_tokens=spec.expected_tokens,
        hint=None if spec.num_hinted else spec.hint,
    )
    hinted = [
        dataclasses.replace(
            free,
            rows=range(num_plain, num_free),
            request=Request(hint.prompt.token_ids, seeds[num_plain:num_free], max_tokens),
            hint=hint,
            is_put_back=True,
        )
        for hint in (spec.hint,)
        if hint is not None and spec.num_hinted
    ]
    begun = [
        dataclasses.replace(
            free,
            rows=[row],
            request=Request(
                prompt.token_ids + given.token_ids,
                seeds[row : row + 1],
                max_tokens - len(given.token_ids),
            ),
            given=given,
        )
        for row, given in enumerate(spec.given, start=num_free)
        if not given.is_complete
    ]
    return [*([free] if num_plain or not hinted else []), *hinted, *begun]


def _hand_in_given(
    number: int, spec: GroupSpec, group_size: int, collector: Collector, scoring: Scoring
) -> None:
    """Hand in the rows of a group that need no sampling; others are sampled meanwhile."""
    for row, given in enumerate(spec.given, start=group_size - len(spec.given)):
        if given.is_complete:
            write = partial(_given_draft, given, collector.decode)
            scoring.add((number, row), spec.prompt, write)


def _sample(
    asked: Sequence[_Asked],
    sampling: Sampling,
    collector: Collector,
    scoring: Scoring,
    *,
    on_progress: Progress,
) -> list[list[Completion]]:
    """The engine's answers, in the order of `asked`; each goes to scoring when it is done."""
    order = sorted(range(len(asked)), key=lambda place: asked[place].begins_after)
    ordered = [asked[place] for place in order]
    handed_in: dict[RowKey, Completion] = {}

    def hand_in(place: int, sample: int, completion: Completion) -> None:
        row = ordered[place]
        handed_in[place, sample] = completion
        scoring.add(
            (row.number, row.rows[sample]),
            row.prompt,
            lambda: row.draft(completion, collector.decode),
        )

    found = collector.engine.generate(
        [row.request for row in ordered],
        sampling=sampling,
        on_progress=on_progress,
        on_finished=hand_in,
    )
    completions: list[list[Completion]] = [[] for _ in asked]
    for place, own in enumerate(found):
        completions[order[place]] = own
        for sample, completion in enumerate(own):
            # What is returned counts: an engine may hand all in at the end, or be replaced before.
            if handed_in.get((place, sample)) is not completion:
                hand_in(place, sample, completion)
    return completions


def _given_draft(given: Given, decode: Decode) -> Draft:
    """A row as far as it is given."""
    whole = Completion(given.token_ids, "stop")
    text = given.text or text_of(whole, decode) if given.is_complete else ""
    return Draft(given.source, text, whole, len(given.token_ids), given.logprobs)
