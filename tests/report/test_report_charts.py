"""Axes and bars of the report's figures."""

import pytest

from luffy_pl.report.page.charts import axis, histogram, line_chart


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0, 60], ["0", "10", "20", "30", "40", "50", "60"]),
        ([-0.02, 0.01], ["-0.020", "-0.015", "-0.010", "-0.005", "0", "0.005", "0.010"]),
        ([5], ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
        ([0], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_axes_have_round_numbers(values, labels):
    ticks = axis(values, 0, 100).ticks
    assert [tick.label for tick in ticks] == labels
    assert (ticks[0].at, ticks[-1].at) == (0, 100)


def test_a_histogram_counts_every_answer():
    chart = histogram("t", "tokens", {"correct": [0, 1, 2, 24], "incorrect": [24, 24]})
    says = {bar.says for bar in chart.bars}
    assert "1 correct, 0 to 0 tokens" in says
    assert sum(int(text.split()[0]) for text in says) == 6
    assert "2 incorrect, 24 to 24 tokens" in says


def test_nothing_to_draw():
    assert line_chart("t", "x", []) is None
    assert histogram("t", "x", {"correct": []}) is None
