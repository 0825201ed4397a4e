"""How long an evaluation still takes, by hand."""

import pytest

from luffy_pl.callbacks.remaining import ALL, Remaining, clock


def test_at_the_mean_speed_since_the_start():
    remaining = Remaining(total={"a": 100, "b": 300}, done={"a": 0, "b": 0})
    remaining.start(ALL, now_s=1000.0)
    remaining.start("a", now_s=1010.0)
    assert remaining.line("a", now_s=1010.0) == "a 0/100 answers; all 0/400 answers"
    remaining.done["a"] = 25
    # Of a: 25 in 20 s, 75 in 60 s. Of all: 25 in 30 s, 375 in 450 s.
    assert remaining.line("a", now_s=1030.0) == (
        "a 25/100 answers, 1:00 left; all 25/400 answers, 7:30 left"
    )
    remaining.start("a", now_s=1030.0)
    assert remaining.seconds_left("a", now_s=1030.0) == pytest.approx(60)


def test_answers_of_an_earlier_start_are_done_but_were_not_fast():
    remaining = Remaining(total={"a": 100}, done={"a": 60})
    for name in (ALL, "a"):
        remaining.start(name, now_s=0.0)
    remaining.done["a"] = 70
    # 10 in 5 s, 30 in 15 s.
    assert remaining.line("a", now_s=5.0) == "a 70/100 answers, 0:15 left"
    remaining.done["a"] = 100
    assert remaining.line("a", now_s=20.0) == "a 100/100 answers"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (200, "3:20"), (3800, "1:03:20")]
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown
