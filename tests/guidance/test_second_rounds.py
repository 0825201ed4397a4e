"""A phase with hints, whole, on an engine that answers right where it was told enough."""

import dataclasses

import pytest

from luffy_pl.experience.collect import collect_phase
from luffy_pl.experience.guidance import PrefixConfig
from luffy_pl.experience.imitation_buffer import unsolved
from luffy_pl.experience.phases import PhasePlanner
from luffy_pl.experience.replay import prompt_outcome
from luffy_pl.experience.routing import SolveCount
from luffy_pl.experience.sampling import Collector
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.hinter import Hinter
from luffy_pl.guidance.settings import GuidanceConfig, PerPrompt, ShareConfig
from luffy_pl.objective.advantage import GroupAdvantage
from luffy_pl.records import Completion, ExpertTrace, Prompt, Verdict

NEEDED = {"a": 0, "b": 1, "c": 3, "d": 9}
"""Signs of the trace that a prompt has to show before it is answered right."""
TRACE = "+-*/"
LEVELS = ShareConfig((0.25, 0.5, 0.75))


class Told:
    """Answers 1 where enough was told, else 0; the log-probability says how much that was."""

    policy_version = 0

    def __init__(self):
        self.rounds = []

    def generate(self, requests, *, sampling, on_finished, **_):
        self.rounds.append([("".join(map(chr, one.token_ids)), one.seeds) for one in requests])
        found = [[self.answer(one, sampling) for _ in one.seeds] for one in requests]
        for place, own in enumerate(found):
            for number, completion in enumerate(own):
                on_finished(place, number, completion)
        return found

    def answer(self, request, sampling):
        told = sum(chr(one) in TRACE for one in request.token_ids)
        is_right = told >= NEEDED[chr(request.token_ids[1])]
        return Completion((int(is_right), 9), "stop", (-float(told), -0.5), 0)

    def sleep(self):
        pass


class Grades:
    def grade(self, items, on_progress=None):
        return [
            Verdict(text == "1", "ok", "x", text, prompt.ground_truth) for text, prompt in items
        ]


def prompts():
    return tuple(
        Prompt(name, f"<{name}>", tuple(map(ord, f"<{name}>")), "1", question=name)
        for name in NEEDED
    )


@pytest.fixture
def phase():
    """Collect a phase; returns its groups by prompt, what the engine was asked, and the record."""

    def collect(guidance, *, number=0, rank=0, num_ranks=1, made=None, **settings):
        rollout = RolloutConfig(
            **{"prompts_per_phase": 4, "group_size": 3, "expert_traces_per_group": 0,
               "max_response_tokens": 5, **settings},
            guidance=guidance,
        )  # fmt: skip
        traces = {one.id: (ExpertTrace(TRACE, tuple(map(ord, TRACE))),) for one in prompts()}
        data = dataclasses.make_dataclass("Data", ["prompts", "traces"])(prompts(), traces)
        planner = made or PhasePlanner(data, rollout, seed=1, rank=rank, num_ranks=num_ranks)
        engine = Told()
        collector = Collector(
            engine, Grades(), lambda ids: str(ids[-1]), seed=1, rollout=rollout,
            traces=traces, sampler_logprobs=rollout.needs_own_logprobs,
            hinter=guidance and Hinter(
                guidance, lambda texts: [tuple(map(ord, t)) for t in texts], (),
                "{question}!{hint}", None, 1,
            ),
        )  # fmt: skip
        engine.policy_version = number
        record = collect_phase(
            number, planner=planner, collector=collector, policy=None,
            advantage=GroupAdvantage(), steps_per_phase=1, together=lambda work: work(),
        )  # fmt: skip
        return {one.prompt.id: one for one in record.groups}, engine.rounds, record, planner

    return collect


def shares(group):
    return [row.hint and row.hint.share for row in group.responses]


def test_more_is_told_as_long_as_all_answers_are_wrong(phase):
    groups, rounds, record, _ = phase(GuidanceConfig(share=LEVELS))
    assert {name: shares(one) for name, one in groups.items()} == {
        "a": [None] * 3, "b": [0.25] * 3, "c": [0.75] * 3, "d": [0.75] * 3,
    }  # fmt: skip
    assert {name: one.prompt.text for name, one in groups.items()} == {
        "a": "<a>", "b": "<b!+>", "c": "<c!+-*>", "d": "<d!+-*>",
    }  # fmt: skip
    assert [sorted(text for text, _ in one) for one in rounds[1:]] == [
        ["<b!+>", "<c!+>", "<d!+>"], ["<c!+->", "<d!+->"], ["<c!+-*>", "<d!+-*>"],
    ]  # fmt: skip
    assert all(row.source == "rollout" for one in groups.values() for row in one.responses)
    # The trained rows begin with the hinted prompt, and nothing of them is given.
    assert int(record.off_policy_mask_NT.sum()) == 0
    assert sorted(record.num_tokens_N.tolist()) == sorted([5] * 3 + [7] * 3 + [9] * 6)
    assert record.hints == {
        "wanted": 7, "given": 7, "nothing_to_tell": 0, "not_in_vocabulary": 0, "too_long": 0,
    }  # fmt: skip
    # Groups that were sampled again have cost their tokens: 4 groups, then 3, 2 and 2, of 3 rows.
    assert sum(sum(one.num_sampled) for one in record.sampled) == 2 * 3 * (4 + 3 + 2 + 2)


def test_every_round_takes_place_and_draws_from_other_seeds(phase):
    _, rounds, _, _ = phase(GuidanceConfig(share=LEVELS))
    seeds = [seed for one in rounds for _, own in one for seed in own]
    assert len(set(seeds)) == len(seeds)
    solved = dict.fromkeys(NEEDED, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "NEEDED", solved)
        _, rounds, _, _ = phase(GuidanceConfig(share=LEVELS))
    assert [len(one) for one in rounds] == [4, 0, 0, 0]


def test_without_guidance_nothing_is_asked_again(phase):
    groups, rounds, record, _ = phase(None)
    assert [len(one) for one in rounds] == [4]
    assert (record.hints, groups["d"].responses[0].hint) == ({}, None)


def test_rows_that_are_put_back_stand_under_the_plain_prompt(phase):
    guidance = GuidanceConfig(share=LEVELS, put_back="plain", rows=2)
    groups, rounds, record, _ = phase(guidance)
    assert {one.prompt.text for one in groups.values()} == {"<a>", "<b>", "<c>", "<d>"}
    assert shares(groups["c"]) == [None, 0.75, 0.75]
    assert [row.source for row in groups["c"].responses] == ["rollout", "hinted", "hinted"]
    assert groups["c"].rewards == (0.0, 1.0, 1.0)
    # Its author is the policy under the hint of three signs: the engine said -3, then -0.5.
    row = record.groups.index(groups["c"]) * 3 + 1
    assert record.off_policy_mask_NT[row].tolist() == [False, False, True, True]
    assert record.behaviour_logprob_NT[row].tolist() == [0, 0, -3.0, -0.5]
    assert record.advantage_N[row - 1 : row + 2].tolist() == pytest.approx([-2 / 3, 1 / 3, 1 / 3])
    assert not record.in_imitation_N[row]
    assert [len(seeds) for one in rounds[1:] for _, seeds in one] == [2] * 7


def test_a_hint_from_the_start(phase):
    whole = GuidanceConfig(when="always", share=ShareConfig((0.75,)))
    groups, rounds, _, _ = phase(whole)
    assert {one.prompt.text for one in groups.values()} == {f"<{name}!+-*>" for name in NEEDED}
    assert len(rounds) == 1
    groups, rounds, _, _ = phase(dataclasses.replace(whole, put_back="plain", rows=1))
    assert [row.source for row in groups["c"].responses] == ["rollout", "rollout", "hinted"]
    assert groups["c"].rewards == (0.0, 0.0, 1.0)
    assert len(rounds) == 1


def test_half_of_the_groups_are_hinted_by_chance(phase):
    half = GuidanceConfig(when="always", chance=0.5, share=ShareConfig((0.75,)))
    hinted = [
        one.responses[0].hint is not None
        for number in range(50)
        for one in phase(half, number=number)[0].values()
    ]
    assert 70 < sum(hinted) < 130


def test_a_wrong_answer_is_shown_with_its_verdict(phase):
    guidance = GuidanceConfig(what="own_failure", when="always", put_back="plain", rows=1)
    groups, rounds, _, _ = phase(guidance)
    assert sorted(text for text, _ in rounds[1]) == ["<b!0>", "<c!0>", "<d!0>"]
    assert [row.source for row in groups["d"].responses] == ["rollout", "rollout", "hinted"]
    assert [row.hint.text for row in groups["d"].responses if row.hint] == ["0"]


def test_groups_are_helped_before_they_are_replaced(phase):
    # Two prompts a phase, two spare ones; what is still alike after help is replaced, with help.
    guidance = GuidanceConfig(share=LEVELS, put_back="plain", rows=2)
    _, rounds, record, _ = phase(guidance, prompts_per_phase=2, refill_tries=2)
    assert len(rounds) == 4 * 3
    assert [len(one.responses) for one in record.groups] == [3, 3]
    later = {text for one in rounds[4:] for text, _ in one}
    assert any("!" in text for text in later)


def test_two_ranks_make_the_groups_of_one(phase):
    for guidance in (
        GuidanceConfig(share=LEVELS, chance=0.7),
        GuidanceConfig(share=LEVELS, put_back="plain", rows=1),
    ):
        whole, rounds, _, _ = phase(guidance)
        parts = [phase(guidance, rank=rank, num_ranks=2) for rank in range(2)]
        assert {name: one for groups, *_ in parts for name, one in groups.items()} == whole
        assert [len(made) for _, made, *_ in parts] == [len(rounds)] * 2


def test_nobody_mistakes_a_row_under_a_hint_for_the_policys_own(phase):
    groups, *_ = phase(GuidanceConfig(share=LEVELS))
    assert sorted(unsolved(list(groups.values()))) == ["b", "c", "d"]
    assert prompt_outcome(groups["b"]) is None
    groups, *_ = phase(GuidanceConfig(share=LEVELS, put_back="plain", rows=1))
    outcome = prompt_outcome(groups["b"])
    assert (outcome.num_correct, outcome.num_rows, outcome.successes) == (0, 2, ())
    assert sorted(unsolved(list(groups.values()))) == ["b", "c", "d"]
    routed = SolveCount(imitate_up_to=0).route(groups["b"])
    assert [row.role for row in routed.responses] == ["none"] * 3
    routed = SolveCount(imitate_up_to=0).route(groups["a"])
    assert [row.role for row in routed.responses] == ["policy"] * 3


def begun(prefix, collect, **settings):
    given = {"expert_traces_per_group": 2, **settings}
    return collect(None, prefix=PrefixConfig(when="all_failed", **prefix), **given)


def test_an_expert_begins_rows_only_where_all_rollouts_failed(phase):
    # The trace as tokens is shown behind the prompt, and the policy goes on from there.
    groups, rounds, record, _ = begun({"levels": (0.25, 0.5, 0.75)}, phase)
    assert [row.source for row in groups["a"].responses] == ["rollout"] * 3
    assert {name: [row.num_given for row in groups[name].responses] for name in "bcd"} == {
        "b": [0, 1, 1], "c": [0, 3, 3], "d": [0, 3, 3],
    }  # fmt: skip
    assert groups["c"].rewards == (0.0, 1.0, 1.0)
    assert [sorted(text for text, seeds in one if seeds) for one in rounds[1:]] == [
        ["<b>+", "<b>+", "<c>+", "<c>+", "<d>+", "<d>+"],
        ["<c>+-", "<c>+-", "<d>+-", "<d>+-"],
        ["<c>+-*", "<c>+-*", "<d>+-*", "<d>+-*"],
    ]
    assert int(record.off_policy_mask_NT.sum()) == 2 * (1 + 3 + 3)


def test_the_beginning_of_a_prompt_grows_from_phase_to_phase(phase):
    own = PerPrompt(start=0.25, step=0.25, most=1.0)
    groups, rounds, _, planner = begun({"per_prompt": own}, phase)
    assert len(rounds) == 2
    assert planner.shares["prefix"].of["c"] == 0.5
    assert planner.shares["prefix"].of["a"] == 0.0
    groups, *_ = begun({"per_prompt": own}, phase, number=1, made=planner)
    assert [row.num_given for row in groups["c"].responses] == [0, 2, 2]


def test_a_share_of_its_own_follows_the_success_of_each_prompt(phase):
    own = PerPrompt(start=0.25, step=0.25, most=1.0)
    guidance = GuidanceConfig(share=ShareConfig(per_prompt=own))
    _, _, _, planner = phase(guidance)
    assert planner.shares["guidance"].of == {"a": 0.0, "b": 0.0, "c": 0.5, "d": 0.5}
    kept = planner.state_dict()
    groups, *_ = phase(guidance, number=1, made=planner)
    assert shares(groups["c"]) == [0.5] * 3
    assert planner.shares["guidance"].of["c"] == 0.75
    _, _, _, other = phase(guidance)
    other.load_state_dict(kept)
    again, *_ = phase(guidance, number=1, made=other)
    assert again == groups
