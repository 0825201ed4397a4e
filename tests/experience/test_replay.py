"""The pool of the policy's own successes: what enters, what leaves, what is drawn."""

import io
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luffy_pl.experience.replay import PromptOutcome, ReplayConfig, ReplayPool, prompt_outcome
from luffy_pl.records import Group, Prompt, Response, Verdict


def answer(*ids):
    return ids, (-0.5,) * len(ids)


def solved(name, correct, *answers, rows=8):
    return PromptOutcome(name, correct, rows, answers or (answer(1, 2),))


def started(**settings):
    pool = ReplayPool(ReplayConfig(**settings))
    pool.has_started = True
    return pool


def test_nothing_is_kept_before_more_than_the_share_is_right():
    pool = ReplayPool(ReplayConfig(start_solved=0.5))
    pool.update([solved("a", 4)])
    assert (pool.has_started, pool.bucket_of) == (False, {})
    pool.update([solved("a", 4), solved("b", 5)])
    assert (pool.has_started, pool.bucket_of) == (True, {})
    pool.update([solved("a", 4)])
    assert pool.bucket_of == {"a": 4}


def test_never_and_too_often_solved_prompts_stay_out():
    pool = started(max_correct=6)
    pool.update([solved("never", 0), solved("some", 6), solved("often", 7)])
    assert pool.bucket_of == {"some": 6}


def test_a_solved_prompt_leaves_for_good():
    pool = started()
    pool.update([solved("a", 3)])
    pool.update([solved("a", 8)])
    assert (pool.bucket_of, pool.trajectories, pool.retired) == ({}, {}, {"a"})
    kept = started(retire_solved=False)
    kept.update([solved("a", 3)])
    kept.update([solved("a", 8)])
    assert (kept.bucket_of, kept.retired) == ({"a": 3}, set())


def test_the_newest_distinct_answers_are_kept():
    pool = started(max_trajectories=3)
    pool.update([solved("a", 3, answer(1), answer(2), answer(1))])
    assert [ids for ids, _ in pool.trajectories["a"]] == [(1,), (2,)]
    pool.update([solved("a", 2, answer(2), answer(3), answer(4))])
    assert [ids for ids, _ in pool.trajectories["a"]] == [(2,), (3,), (4,)]
    assert pool.bucket_of == {"a": 2}


@given(
    buckets=st.dictionaries(st.text(min_size=1), st.integers(1, 7), max_size=12),
    num=st.integers(0, 15),
    kind=st.sampled_from(["normal", "linear", "sqrt", "uniform"]),
    phase=st.integers(0, 99),
)
def test_draws_are_without_replacement_and_the_same_again(buckets, num, kind, phase):
    pool = started(buckets=kind)
    pool.bucket_of = buckets
    drawn = pool.draw(num, group_size=8, seed=0, phase=phase)
    assert len(set(drawn)) == len(drawn) == min(num, len(buckets))
    assert set(drawn) <= set(buckets)
    pool.bucket_of = dict(reversed(buckets.items()))
    assert pool.draw(num, group_size=8, seed=0, phase=phase) == drawn


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # exp(-(k - 4)^2 / 2) of k = 1, 4, 7: 0.011, 1, 0.011; then in proportion to k, to its
        # root, and to the prompts in a bucket.
        ("normal", {1: 0.0109, 4: 0.9783, 7: 0.0109}),
        ("linear", {1: 1 / 12, 4: 4 / 12, 7: 7 / 12}),
        ("sqrt", {1: 1 / 5.6458, 4: 2 / 5.6458, 7: 2.6458 / 5.6458}),
        ("uniform", {1: 0.5, 4: 0.25, 7: 0.25}),
    ],
)
def test_shares_of_the_buckets(kind, expected):
    pool = started(buckets=kind)
    pool.bucket_of = {"a": 1, "b": 1, "c": 4, "d": 7}
    drawn = [pool.draw(1, group_size=8, seed=0, phase=phase)[0] for phase in range(2000)]
    counts = Counter(pool.bucket_of[name] for name in drawn)
    for bucket, share in expected.items():
        assert counts[bucket] / 2000 == pytest.approx(share, abs=0.035)  # 3 deviations


def test_which_answer_is_shown():
    answers = (answer(1), answer(2), answer(3))
    picked = {}
    for choice in ("min_entropy", "max_entropy", "random"):
        pool = started(choice=choice)
        pool.update([solved("a", 3, *answers)])
        shown = [pool.choose("a", [0.3, 0.1, 0.2], seed=0, phase=phase) for phase in range(30)]
        assert {row.source for row in shown} == {"replay"}
        assert all(row.is_complete and row.logprobs == (-0.5,) for row in shown)
        picked[choice] = {row.token_ids[0] for row in shown}
    assert picked == {"min_entropy": {2}, "max_entropy": {1}, "random": {1, 2, 3}}


def test_a_checkpoint_holds_the_pool():
    pool = started()
    pool.update([solved("a", 3, answer(1, 2), answer(3)), solved("b", 8), solved("c", 1)])
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    other = ReplayPool(ReplayConfig())
    other.load_state_dict(torch.load(file, weights_only=True))
    assert vars(other) == vars(pool)
    other.update([solved("a", 3, answer(9))])
    assert len(pool.trajectories["a"]) == 2  # nothing is shared


def row(source, correct, *, finish="stop", logprobs=(-1.0,)):
    verdict = Verdict(correct, "ok", "string", None, "1")
    return Response(source, "", (5,), finish, verdict, logprobs)


def test_new_answers_are_right_whole_sampled_ones():
    rows = (
        row("rollout", True),
        row("rollout", False),
        row("rollout", None),
        row("rollout", True, finish="length"),  # without EOS: no whole answer to show
        row("rollout", True, logprobs=None),
        row("replay", True),
    )
    found = prompt_outcome(Group(Prompt("p", "", (1,), "1"), rows, (0.0,) * 6))
    assert (found.prompt_id, found.num_correct, found.num_rows) == ("p", 4, 6)
    assert found.successes == (((5,), (-1.0,)),)
