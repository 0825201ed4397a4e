"""The prompts of a phase, where earlier phases have a say."""

import json
from types import SimpleNamespace

import pytest

from luffy_pl.errors import ConfigError
from luffy_pl.experience.checks import check_ranks
from luffy_pl.experience.phases import PhasePlanner
from luffy_pl.experience.replay import PromptOutcome, ReplayConfig
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.records import ExpertTrace, Group, Prompt, Response, Verdict

VIEW = SimpleNamespace(mean_entropies=lambda rows, temperature: [0.0] * len(rows))


def planner(num_prompts=6, *, rank=0, num_ranks=1, **settings):
    prompts = tuple(Prompt(f"p{n}", "", (n,), "1") for n in range(num_prompts))
    traces = {prompt.id: (ExpertTrace("t", (1,)),) for prompt in prompts}
    rollout = RolloutConfig(
        **{"prompts_per_phase": 4, "group_size": 4, "expert_traces_per_group": 0, **settings}
    )
    return PhasePlanner(
        SimpleNamespace(prompts=prompts, traces=traces), rollout,
        seed=0, rank=rank, num_ranks=num_ranks,
    )  # fmt: skip


def replaying(**settings):
    made = planner(replay=ReplayConfig(share=0.5), **settings)
    made.pool.has_started = True
    answers = (((1,), (-1.0,)),)
    made.pool.update([PromptOutcome(prompt.id, 2, 4, answers) for prompt in made.prompts.prompts])
    return made


@pytest.mark.parametrize("refill_tries", [0, 1])
def test_a_phase_with_replay_is_never_short(refill_tries):
    """Six prompts, four a phase: every other phase spans two epochs and may hold one twice."""
    made = replaying(refill_tries=refill_tries)
    for phase in range(60):
        plan = made.plan(phase, view=VIEW)
        names = [prompt.id for prompt in plan.prompts]
        assert len(names) == 4
        assert len(plan.replayed) == 2
        assert set(names[2:]) == set(plan.replayed)
        assert not {prompt.id for prompt in plan.spare} & set(names)


def test_ranks_share_a_phase():
    parts = [replaying(rank=rank, num_ranks=2).plan(3, view=VIEW) for rank in range(2)]
    whole = replaying().plan(3, view=VIEW)
    assert [len(part.prompts) for part in parts] == [2, 2]
    places = {place: prompt for part in parts for place, prompt in zip(part.places, part.prompts)}  # noqa: B905
    assert [places[place] for place in range(4)] == list(whole.prompts)


def test_retired_prompts_make_room_for_others():
    made = planner(replay=ReplayConfig())
    made.pool.retired = {"p0", "p1"}
    for phase in range(9):
        names = {prompt.id for prompt in made.plan(phase, view=VIEW).prompts}
        assert len(names) >= 3
        assert not names & {"p0", "p1"}
    made.pool.retired = {prompt.id for prompt in made.prompts.prompts}
    assert len(made.plan(0, view=VIEW).prompts) == 4


def group(name, source, correct):
    row = Response(source, "", (5,), "stop", Verdict(correct, "ok", "string", None, "1"), (-1.0,))
    return Group(Prompt(name, "", (1,), "1"), (row,), (float(correct),))


def test_phases_of_imitation_say_nothing_about_the_policy():
    made = planner(replay=ReplayConfig(), sft_phases=2)
    made.imitated([group("p0", "expert", True)], 1)
    assert (made.pool.retired, made.pool.has_started) == (set(), False)
    made.imitated([group("p0", "rollout", True)], 2)
    assert (made.pool.retired, made.pool.has_started) == ({"p0"}, True)


def test_a_checkpoint_continues_pool_and_buffer():
    made = replaying()
    made.buffer.ids = ["p3", "p1"]
    other = planner(replay=ReplayConfig(share=0.5))
    other.load_state_dict(made.state_dict())
    assert other.buffer.ids == ["p3", "p1"]
    assert other.plan(5, view=VIEW) == made.plan(5, view=VIEW)


def test_another_number_of_ranks_goes_on_with_the_same_prompts():
    state = json.loads(json.dumps(replaying().state_dict()))
    parts = [planner(replay=ReplayConfig(share=0.5), rank=r, num_ranks=2) for r in range(2)]
    for part in parts:
        part.load_state_dict(state)
    plans = [part.plan(5, view=VIEW) for part in parts]
    found = {place: prompt for plan in plans for place, prompt in zip(plan.places, plan.prompts)}  # noqa: B905
    assert [found[place] for place in range(4)] == list(replaying().plan(5, view=VIEW).prompts)


def test_a_buffer_smaller_than_the_ranks_would_leave_one_without_a_step():
    rollout = RolloutConfig(
        prompts_per_phase=4, expert_traces_per_group=0, imitation_buffer=1
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"imitation_buffer: must be at least the number of ranks, 2"
    ):
        check_ranks(rollout, num_ranks=2, steps_per_phase=1)
