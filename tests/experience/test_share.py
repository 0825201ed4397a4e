"""Which problems a rank answers, and how far it is."""

import pytest

from luffy_pl.data.source import PromptSource
from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.experience.share import Share
from luffy_pl.records import Group, Prompt

BENCHMARK = Benchmark("b", PromptSource("x.jsonl"), samples_per_problem=4, temperature=1.0)
PROBLEMS = [Prompt(f"p/{n}", "", (1,), "1") for n in range(7)]


def group(problem):
    return Group(problem, (), ())


def share(rank=0, num_ranks=1, known=(), answers_per_chunk=8):
    return Share(
        BENCHMARK, PROBLEMS, {PROBLEMS[n].id: group(PROBLEMS[n]) for n in known},
        answers_per_chunk=answers_per_chunk, rank=rank, num_ranks=num_ranks,
    )  # fmt: skip


def chunks(share):
    return [list(share.chunk(step)) for step in range(share.num_chunks)]


def test_by_hand():
    # 8 answers are 2 problems of 4 samples.
    assert chunks(share()) == [[0, 1], [2, 3], [4, 5], [6]]
    assert chunks(share(0, 2)) == [[0, 2], [4, 6]]
    assert chunks(share(1, 2)) == [[1, 3], [5]]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("answers_per_chunk", [1, 4, 9, 100])
def test_every_problem_once_and_as_many_chunks_on_every_rank(num_ranks, answers_per_chunk):
    of_ranks = [share(r, num_ranks, (), answers_per_chunk) for r in range(num_ranks)]
    assert len({s.num_chunks for s in of_ranks}) == 1
    answered = [place for s in of_ranks for chunk in chunks(s) for place in chunk]
    assert sorted(answered) == list(range(7))


def test_progress_counts_what_is_known_from_the_start():
    some = share(known=[1, 6])
    assert some.num_answers == 28
    # Before the chunks [0 1] [2 3] [4 5] [6], four answers to a problem.
    assert [some.num_done(step) for step in range(5)] == [8, 12, 20, 28, 28]


def test_known_problems_are_not_missing_and_keep_their_place():
    some = share(known=[1, 6])
    assert [p.id for p in some.missing(0)] == ["p/0"]
    assert some.missing(3) == []
    assert [g.prompt.id for g in some.groups(0, [group(PROBLEMS[0])])] == ["p/0", "p/1"]
