import random
import re

import pytest

from luffy_pl.miniature.world import OPENERS, Problem, draw_problem, draw_rows, write_trace

STEP = re.compile(rf"({'|'.join(OPENERS)})(\d+)([+-]\d)=(\d+)")


def test_a_problem_by_hand():
    problem = Problem(27, (-6, -9, 9, 5))
    assert problem.question == "27-6-9+9+5=?"
    assert problem.values == (27, 21, 12, 21, 26)
    assert problem.answer == 26


@pytest.mark.parametrize("length", range(1, 8))
def test_values_have_two_digits_and_the_answer_comes_last(length):
    rng = random.Random(length)
    for _ in range(200):
        problem = draw_problem(length, rng)
        assert len(problem.changes) == length
        assert all(2 <= abs(change) <= 9 for change in problem.changes)
        assert all(10 <= value <= 99 for value in problem.values)
        assert problem.answer not in problem.values[:-1]


@pytest.mark.parametrize("length", [1, 4, 6])
def test_every_step_of_a_trace_is_right(length):
    rng = random.Random(length)
    for _ in range(100):
        problem = draw_problem(length, rng)
        thought, _, answer = write_trace(problem, rng).partition("</think>")
        steps = STEP.findall(thought)
        assert "".join("{}{}{}={}".format(*step) for step in steps) == thought
        assert [int(before) for _, before, _, _ in steps] == list(problem.values[:-1])
        assert tuple(int(change) for _, _, change, _ in steps) == problem.changes
        assert [int(after) for _, _, _, after in steps] == list(problem.values[1:])
        assert answer == f"\\boxed{{{problem.answer}}}"


def test_an_expert_that_skips_adds_two_digits_at_once():
    problem, rng = Problem(27, (-6, -9, 9, 5, -2)), random.Random(0)
    trace = write_trace(problem, rng, skip=1.0)
    for opener in OPENERS:
        trace = trace.replace(opener, ";")
    assert trace == ";27-6-9=12;12+9+5=26;26-2=24</think>\\boxed{24}"


def test_a_step_is_skipped_as_often_as_asked():
    rng = random.Random(0)
    traces = [write_trace(draw_problem(2, rng), rng, skip=0.25) for _ in range(4000)]
    skipped = sum(trace.count("=") == 1 for trace in traces) / len(traces)
    assert skipped == pytest.approx(0.25, abs=0.03)  # the standard error is 0.007


def test_skipping_changes_the_traces_alone():
    plain, skipping = draw_rows(0)["train"], draw_rows(0, skip=0.5)["train"]
    assert [row["prompt"] for row in plain] == [row["prompt"] for row in skipping]
    assert [row["reward_model"] for row in plain] == [row["reward_model"] for row in skipping]
    assert plain[0]["target"] != skipping[0]["target"]
    assert not any("expert_logprobs" in row for row in skipping)
    for row in skipping:
        boxed = f"\\boxed{{{row['reward_model']['ground_truth']}}}"
        assert row["target"][0]["content"].endswith(boxed)


def test_a_trace_that_gives_up_boxes_the_value_it_has():
    trace = write_trace(Problem(27, (-6, -9, 9, 5)), random.Random(0), num_steps=2)
    assert [step[1:] for step in STEP.findall(trace)] == [("27", "-6", "21"), ("21", "-9", "12")]
    assert trace.endswith("</think>\\boxed{12}")


def test_openers_follow_their_shares():
    rng = random.Random(0)
    traces = "".join(write_trace(draw_problem(5, rng), rng) for _ in range(2000))
    drawn = [opener for opener, *_ in STEP.findall(traces)]
    for opener, share in OPENERS.items():
        # 10,000 draws: the standard error is at most 0.005.
        assert drawn.count(opener) / len(drawn) == pytest.approx(share, abs=0.02)


def test_splits_hold_what_they_promise_and_share_no_problem():
    rows = draw_rows(3)
    lengths = {split: [row["data_source"] for row in found] for split, found in rows.items()}
    assert {split: len(found) for split, found in rows.items()} == {
        "train": 512,
        "heldout": 256,
        "longer": 128,
        "shorter": 192,
    }
    assert lengths["train"].count("running_sum_4") == lengths["train"].count("running_sum_5") == 256
    assert set(lengths["longer"]) == {"running_sum_6"}
    assert set(lengths["shorter"]) == {"running_sum_1", "running_sum_2", "running_sum_3"}

    every = [row for found in rows.values() for row in found]
    assert len({row["prompt"][0]["content"] for row in every}) == len(every)
    assert [row["extra_info"]["index"] for row in every] == list(range(len(every)))


def test_training_problems_are_shuffled():
    sources = [row["data_source"] for row in draw_rows(0)["train"]]
    batches = [sources[first : first + 16] for first in range(0, len(sources), 16)]
    assert all(len(set(batch)) == 2 for batch in batches)


def test_a_row_agrees_with_itself():
    for row in draw_rows(1)["heldout"]:
        question = row["prompt"][0]["content"]
        # Python's own arithmetic, not ours.
        answer = eval(question.removesuffix("=?"))
        assert row["reward_model"] == {"style": "rule", "ground_truth": str(answer)}
        assert row["target"][0]["content"].startswith("<think>")
        assert row["target"][0]["content"].endswith(f"</think>\\boxed{{{answer}}}")


def test_rows_depend_on_the_seed_alone():
    assert draw_rows(0) == draw_rows(0)
    assert draw_rows(0)["train"] != draw_rows(1)["train"]
