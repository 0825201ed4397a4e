"""Bins of histograms, and lines without what is no number."""

import math

import pytest

from luffy_pl.report.page.figure import Line, bin_width, figure, histogram


@pytest.mark.parametrize(
    ("spread", "width"), [(0, 1), (30, 1), (31, 2), (60, 2), (61, 5), (150, 5), (3000, 100)]
)
def test_bins_are_round_and_few(spread, width):
    assert bin_width(spread) == width


def test_a_histogram_counts_every_answer():
    lengths = {"correct": {10: 1, 11: 1, 12: 2, 80: 1}, "incorrect": {80: 1, 81: 1}}
    drawn = histogram("t", "", "tokens", lengths)
    correct, incorrect = drawn.lines
    # Bins of 5 from 10 to 14 up to 80 to 84.
    assert (drawn.width, correct.x[0], correct.x[-1]) == (5, 12.5, 82.5)
    assert (correct.y[0], correct.y[-1], sum(correct.y)) == (4, 1, 5)
    assert (incorrect.y[-1], sum(incorrect.y)) == (2, 2)


def test_nothing_to_draw():
    assert figure("t", "", "phase", [Line("a", [], [])]) is None
    assert figure("t", "", "phase", [Line("a", [1], [math.nan])]) is None
    assert histogram("t", "", "tokens", {"correct": {}}) is None


def test_points_that_are_no_numbers_are_left_out_with_their_intervals():
    line = Line("a", [1, 2, 3], [0.5, math.inf, 0.7], low=[0.4, 0.0, 0.6], high=[0.6, 1.0, None])
    [kept] = figure("t", "", "phase", [line]).lines
    assert (kept.x, kept.y, kept.low, kept.high) == ([1, 3], [0.5, 0.7], [0.4, 0.6], [0.6, None])
