"""Which rows of a group learn, and which prompts wait to be imitated."""

import pytest

from luffy_pl.errors import ConfigError
from luffy_pl.experience.imitation_buffer import ImitationBuffer, imitated_group, unsolved
from luffy_pl.experience.routing import SolveCount
from luffy_pl.records import ExpertTrace, Group, Prompt, Response, Verdict
from luffy_pl.registry import find

PROMPT = Prompt("p", "", (1,), "1")


def group(*rollouts, given=(("expert", True),), name="p"):
    rows = [("rollout", correct) for correct in rollouts] + list(given)
    responses = tuple(
        Response(source, "", (5,), "stop", Verdict(correct, "ok", "string", None, "1"))
        for source, correct in rows
    )
    return Group(Prompt(name, "", (1,), "1"), responses, (0.0,) * len(rows))


def roles(num_right, config):
    *rollouts, given = config.route(
        group(*[True] * num_right, *[False] * (4 - num_right))
    ).responses
    (of_rollouts,) = {row.role for row in rollouts}
    return of_rollouts, given.role


IMITATE, GUIDE, REINFORCE = ("none", "imitation"), ("none", "policy"), ("policy", "none")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SolveCount(), [IMITATE, REINFORCE, REINFORCE, REINFORCE, REINFORCE]),
        (SolveCount(imitate_up_to=2), [IMITATE, IMITATE, IMITATE, REINFORCE, REINFORCE]),
        (SolveCount(0, guide_up_to=2), [IMITATE, GUIDE, GUIDE, REINFORCE, REINFORCE]),
        (SolveCount(1, guide_up_to=1), [IMITATE, IMITATE, REINFORCE, REINFORCE, REINFORCE]),
    ],
)
def test_roles_by_the_number_of_right_rollouts(config, expected):
    assert [roles(num_right, config) for num_right in range(5)] == expected


def test_only_the_policys_own_graded_answers_count():
    mixed = group(None, False, given=(("expert", True), ("prefix", True)))
    assert [row.role for row in SolveCount().route(mixed).responses] == [
        "none", "none", "imitation", "imitation",
    ]  # fmt: skip


def test_the_router_is_found_by_its_name():
    assert find("router", "solve_count", where="data.rollout.routing.kind") is SolveCount


@pytest.mark.parametrize("bounds", [(-1, None), (2, 1)])
def test_bounds_in_the_wrong_order(bounds):
    with pytest.raises(ConfigError, match="imitate_up_to"):
        SolveCount(*bounds)


def test_unsolved_prompts():
    groups = [
        group(False, False, name="wrong"),
        group(False, True, name="solved"),
        group(False, None, name="one without grade"),
        group(None, None, name="none graded"),
        group(name="no rollout"),
    ]
    assert unsolved(groups) == ["wrong", "one without grade"]


def test_the_buffer_gives_the_oldest_once_there_are_enough():
    buffer = ImitationBuffer(3)
    buffer.add(["a", "b", "a"])
    assert (buffer.take(), buffer.ids) == ([], ["a", "b"])
    buffer.add(["b", "c", "d"])
    assert (buffer.take(), buffer.ids) == (["a", "b", "c"], ["d"])
    buffer.add(["a"])  # unsolved again: it may wait again
    assert buffer.ids == ["d", "a"]


def test_an_imitated_group_is_one_trace_that_nothing_is_compared_with():
    traces = [ExpertTrace(text, (number, 9)) for number, text in enumerate("xyz")]
    groups = [imitated_group(PROMPT, traces, seed=0, phase=phase) for phase in range(20)]
    assert {made.responses[0].text for made in groups} == {"x", "y", "z"}
    for made in groups:
        (row,) = made.responses
        assert (row.role, row.num_given, made.rewards) == ("imitation", 2, (None,))
