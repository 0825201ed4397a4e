"""Groups to one padded record, rows to minibatches and micro-batches."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.experience.collate import Steps, collate, plan_steps
from luffy_pl.experience.compare import compare
from luffy_pl.objective.advantage import GroupAdvantage
from luffy_pl.records import Group, Prompt, Response, Verdict
from luffy_pl.training.micro_batches import micro_batch_rows, rows_of_like_length


def response(source, tokens, correct, logprobs=None):
    verdict = Verdict(correct, "ok", "string", None, "1")
    num_given = len(tokens) if source == "expert" else 0
    return Response(source, "", tokens, "stop", verdict, logprobs, num_given)


def group(rewards=(0.0, 1.0), logprobs=None):
    prompt = Prompt(id="a", text="", token_ids=(7, 8, 9), ground_truth="1")
    rows = (
        response("rollout", (4, 1), rewards[0], logprobs),
        response("expert", (5, 6, 1), rewards[1]),
    )
    return Group(prompt, rows, rewards)


def padded(*groups, **settings):
    steps = plan_steps(len(groups), 1)
    return collate(groups, phase=2, temperature=1.0, steps=steps, **settings)


def made(*groups):
    return compare(padded(*groups), None, GroupAdvantage())


@pytest.mark.case(22)
def test_one_group_by_hand():
    experience = made(group())
    assert experience.token_ids_NL.tolist() == [[7, 8, 9, 4, 1, 0], [7, 8, 9, 5, 6, 1]]
    assert experience.num_tokens_N.tolist() == [5, 6]
    # Position 2 predicts the first response token; the padding of the short row is not learned.
    assert experience.response_mask_NT.int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert experience.off_policy_mask_NT.int().tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert experience.advantage_N.tolist() == [-0.5, 0.5]
    assert experience.sampler_logprob_NT is None


def test_rewards_are_compared_after_the_penalty_and_kept():
    experience = padded(group())
    assert experience.advantage_N.isnan().all()
    compared = compare(experience, torch.tensor([0.5, 0.25]), GroupAdvantage())
    assert compared.advantage_N.tolist() == [-0.625, 0.625]
    assert compared.reward_N.tolist() == [0.0, 1.0]
    assert experience.advantage_N.isnan().all()


@pytest.mark.parametrize("masks_truncated", [False, True])
def test_a_row_that_ran_into_the_limit_is_masked_if_asked_for(masks_truncated):
    whole = group()
    cut = dataclasses.replace(whole.responses[0], finish_reason="length")
    rows = dataclasses.replace(whole, responses=(cut, whole.responses[1]))
    learned = padded(rows, masks_truncated=masks_truncated).response_mask_NT.any(dim=1)
    assert learned.tolist() == [not masks_truncated, True]


def test_a_row_without_grade_is_carried_but_not_learned_from():
    experience = made(group(rewards=(None, 1.0)))
    assert math.isnan(experience.reward_N[0])
    assert not experience.response_mask_NT[0].any()
    assert experience.advantage_N[0] == 0


@pytest.mark.case(31)
def test_a_token_without_a_logprob_of_the_engine_is_not_learned_from():
    experience = made(group(logprobs=(math.nan, -0.25)))
    assert experience.response_mask_NT[0].int().tolist() == [0, 0, 0, 1, 0]
    assert experience.sampler_logprob_NT[0].tolist() == [0, 0, 0, -0.25, 0]
    assert made(group(logprobs=(-math.inf, math.inf))).response_mask_NT[0].sum() == 0


@pytest.mark.case(29)
def test_an_answer_without_a_token_is_a_row_without_a_mask():
    prompt = Prompt(id="a", text="", token_ids=(7, 8, 9), ground_truth="1")
    rows = (response("rollout", (), 0.0), response("expert", (5, 1), 1.0))
    experience = made(Group(prompt, rows, (0.0, 1.0)))
    assert experience.num_tokens_N.tolist() == [3, 5]
    assert experience.response_mask_NT.sum(dim=1).tolist() == [0, 2]


@pytest.mark.case(24)
def test_what_is_trained_is_what_the_engine_sampled_and_was_asked():
    """Ids are never made from text again: 4 and 5 might be spelled alike."""
    experience = made(group())
    assert experience.token_ids_NL[0, :5].tolist() == [7, 8, 9, 4, 1]


def test_the_samplers_logprobs_lie_on_their_tokens():
    experience = made(group(logprobs=(-1.5, -0.25)))
    assert experience.sampler_logprob_NT[0].tolist() == [0, 0, -1.5, -0.25, 0]
    assert (experience.behaviour_logprob_NT == 0).all()


def test_rows_trims_to_the_longest():
    experience = made(group(), group()).rows(torch.tensor([2, 0]))
    assert experience.token_ids_NL.shape == (2, 5)
    assert experience.response_mask_NT.shape == (2, 4)
    assert experience.group_N.tolist() == [1, 0]


def test_steps_are_equal_runs_of_whole_groups():
    assert plan_steps(4, 2) == Steps(of_group=(0, 0, 1, 1), imitates=(False, False))


def test_imitated_groups_have_a_step_of_their_own():
    assert plan_steps(5, 2, num_imitated=1) == Steps((0, 0, 1, 1, 2), (False, False, True))


def test_a_phase_that_only_imitates_has_the_usual_steps():
    assert plan_steps(4, 2, num_imitated=4) == Steps((0, 0, 1, 1), (True, True))


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([3, 9, 4], 10, [[1], [2, 0]]),
        ([6, 5, 4, 3, 2], 10, [[0, 2], [1, 3, 4]]),  # to the fullest with room
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([50], 10, [[0]]),  # above the budget it stands alone
    ],
)
def test_micro_batches_by_hand(lengths, budget, expected):
    nothing = [0] * len(lengths)
    groups = list(range(len(lengths)))
    found = micro_batch_rows(lengths, token_budget=budget, group=groups, num_prompt=nothing)
    assert found == expected


def test_a_prompt_counts_once_for_the_rows_of_its_group():
    lengths, group, num_prompt = [6, 5, 7, 8, 6], [0, 0, 1, 1, 1], [4, 4, 5, 5, 5]
    found = micro_batch_rows(lengths, token_budget=11, group=group, num_prompt=num_prompt)
    assert found == [[3, 2, 4], [0, 1]]  # 8 + 2 + 1 tokens, then 6 + 1
    apart = micro_batch_rows(lengths, token_budget=11, group=group, num_prompt=[0] * 5)
    assert apart == [[3], [2], [4, 1], [0]]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4)), min_size=1, max_size=40),
    st.integers(10, 200),
)
def test_micro_batches_hold_every_row_once_within_the_budget(rows, budget):
    group = [one for _, one in rows]
    num_prompt = [3 * one for one in group]
    lengths = [own + prompt for (own, _), prompt in zip(rows, num_prompt, strict=True)]
    batches = micro_batch_rows(lengths, token_budget=budget, group=group, num_prompt=num_prompt)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        groups = [group[row] for row in batch]
        runs = [one for one, before in zip(groups, [None, *groups], strict=False) if one != before]
        assert len(runs) == len(set(groups))  # rows of a group are neighbours
        tokens = sum(rows[row][0] for row in batch) + sum(3 * one for one in runs)
        assert tokens <= budget or len(batch) == 1


def test_nothing_sampled_lacks_no_logprobs():
    """In a phase of imitation, or with every row given, there is nothing the engine left out."""
    prompt = Prompt(id="a", text="", token_ids=(7, 8), ground_truth="1")
    only_expert = Group(prompt, (response("expert", (5, 6, 1), 1.0),), (1.0,))
    assert made(only_expert).sampler_logprob_NT is not None
    assert made(only_expert, group()).sampler_logprob_NT is None
    assert made(only_expert, group(logprobs=(-1.0, -2.0))).sampler_logprob_NT is not None


def test_rows_side_by_side_count_their_padding():
    found = rows_of_like_length([5, 9, 2, 8, 3], token_budget=18)
    assert found == [[1, 3], [0, 4, 2]]
    assert rows_of_like_length([30, 4], token_budget=18) == [[0], [1]]
    assert rows_of_like_length([], token_budget=18) == []
