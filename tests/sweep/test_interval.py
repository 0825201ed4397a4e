"""The t interval over seeds."""

import math

import pytest

from luffy_pl.sweep.interval import over_seeds, t_quantile


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    # The 97.5% column of any printed t table.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)],
)
def test_quantiles_are_those_of_the_tables(degrees, quantile):
    assert t_quantile(degrees) == pytest.approx(quantile, abs=5e-4)


def test_by_hand():
    # 1, 2, 3: mean 2, s = 1, half width 4.303 / sqrt(3)
    found = over_seeds([1.0, 2.0, 3.0])
    half = 4.303 / math.sqrt(3)
    assert (found.value, found.num_seeds) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_equal_seeds_have_no_interval(value):
    found = over_seeds([value] * 3)
    assert (found.value, found.low, found.high, found.num_seeds) == (value, None, None, 3)


def test_one_seed_has_no_interval():
    assert over_seeds([0.5]).low is None
    assert over_seeds([0.5]).high is None
