"""The word problems of experiment 14: traces that are right, and a test set that is held out."""

import re

import pytest
from scripts import load

from luffy_pl.reward.extract import extract_answer


@pytest.fixture(scope="module")
def problems():
    return load("experiments", "14_real_model", "problems.py")


@pytest.fixture
def splits(problems):
    return problems.draw_splits(480, 300, seed=0)


def test_a_problem_is_what_its_template_says(problems):
    solved = [problems.solve(problems.KINDS[kind].steps(11, 8, 2)) for kind in (4, 5)]
    assert solved[0] == (90, "11 * 8 = 88. 88 + 2 = 90.")
    assert solved[1] == (17, "11 + 8 = 19. 19 - 2 = 17.")
    assert problems.solve(problems.KINDS[1].steps(15, 9)) == (6, "15 - 9 = 6.")


def test_a_trace_is_right(splits):
    step = re.compile(r"(\d+) ([+*-]) (\d+) = (\d+)\.")
    for problem in (*splits["train"], *splits["test"]):
        for left, sign, right, result in step.findall(problem.trace):
            left, right = int(left), int(right)
            assert int(result) == {"+": left + right, "-": left - right, "*": left * right}[sign]
        found = extract_answer(problem.trace, think_end=None, forms=("hash",))
        assert found.answer == problem.answer == result
        # Every number of the question is used.
        question = problem.prompt[-1]["content"]
        assert set(re.findall(r"\d+", question)) <= set(re.findall(r"\d+", problem.trace))


def test_no_training_problem_is_a_test_problem_with_other_names(problems, splits):
    drawn = "|".join((*problems.NAMES, *problems.THINGS))
    asked = {
        split: {re.sub(drawn, "X", problem.prompt[-1]["content"]) for problem in drawn_problems}
        for split, drawn_problems in splits.items()
    }
    assert len(asked["test"]) == 300
    assert not asked["test"] & asked["train"]


def test_problems_are_those_of_their_seed(problems, splits):
    assert problems.draw_splits(480, 300, seed=0) == splits
    assert problems.draw_splits(60, 300, seed=0)["test"] == splits["test"]
    assert problems.draw_splits(480, 300, seed=1) != splits
