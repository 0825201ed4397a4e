"""pass@k against temperature and lengths of answers, from results.csv alone."""

import pytest

from luffy_pl.sweep.answer_figures import (
    plot_answers,
    read_sampled,
    with_several_temperatures,
)
from luffy_pl.sweep.results import RESULTS

HEAD = (
    "cell,group,seed,benchmark,n,k,before,after,low,high,"
    "sampling_temperature,pass,tokens_correct,tokens_incorrect\n"
)
GREEDY = "a-seed0,a,0,longer,9,1,,0.5,0.4,0.6,0.0,0.5,40.0,30.0\n"
SAMPLED = (
    "a-seed0,a,0,longer-t0.5,9,8,,0.5,0.4,0.6,0.5,0.8,40.0,\n"
    "a-seed1,a,1,longer-t0.5,9,8,,0.7,0.6,0.8,0.5,0.9,44.0,30.0\n"
    "a-seed0,a,0,longer-t1.5,9,8,,0.2,0.1,0.3,1.5,0.4,41.0,20.0\n"
)


def table(folder, rows, head=HEAD):
    (folder / RESULTS).write_text(head + rows)
    return folder


def test_means_over_seeds_by_hand(tmp_path):
    cool, hot = read_sampled(table(tmp_path, GREEDY + SAMPLED))
    assert (cool.benchmark, cool.problems, cool.k, cool.temperature) == (
        "longer-t0.5", "longer", "8", 0.5,
    )  # fmt: skip
    # s = 0.1 / sqrt(2), t of one degree 12.706: 0.85 +- 12.706 * 0.05
    assert (cool.passed.value, cool.passed.high) == pytest.approx((0.85, 0.85 + 0.6353), abs=1e-3)
    assert cool.accuracy.value == pytest.approx(0.6)
    assert cool.right.value == 42.0
    # One of the seeds had no wrong answer.
    assert (cool.wrong.value, cool.wrong.num_seeds) == (30.0, 1)
    assert (hot.passed.value, hot.passed.low, hot.wrong.value) == (0.4, None, 20.0)


def test_what_is_drawn_follows_from_the_table(tmp_path):
    def names(rows, head=HEAD):
        return [
            file.name for file in plot_answers(read_sampled(table(tmp_path, rows, head)), tmp_path)
        ]

    assert names(GREEDY + SAMPLED) == ["temperature.png", "lengths.png"]
    for name in ("temperature.png", "lengths.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    one_temperature = SAMPLED.splitlines(keepends=True)[0]
    assert names(one_temperature) == ["lengths.png"]
    assert names(GREEDY) == []
    # A table that was written before these columns.
    old = ",".join(HEAD.split(",")[:10]) + "\n"
    assert names("a-seed0,a,0,longer,9,1,,0.5,0.4,0.6\n", old) == []


def test_a_temperature_is_not_mistaken_for_another_problem_set(tmp_path):
    rows = SAMPLED + "a-seed0,a,0,aime24,9,8,,0.5,0.4,0.6,0.6,0.8,40.0,\n"
    several = with_several_temperatures(read_sampled(table(tmp_path, rows)))
    assert {name: len(found) for name, found in several.items()} == {"longer": 2}
