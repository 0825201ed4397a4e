import math

import pytest
import torch

from luffy_pl.evaluation.statistics import (
    DIFFERENCE,
    SHARE,
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    macro_average,
    majority,
    paired_difference,
    paired_macro_average,
    pass_at_k,
    powers_of_two,
    share_over_problems,
    wilson,
)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (4, 0, 2, 0.0),
        (4, 4, 1, 1.0),
        # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (4, 1, 2, 0.5),
        # 1 - C(6,3)/C(8,3) = 1 - 20/56
        (8, 2, 3, 1 - 20 / 56),
        # fewer wrong ones than draws
        (8, 6, 3, 1.0),
    ],
)
def test_pass_at_k_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected)


def test_interval_of_a_proportion():
    """100 problems, half of them solved: +- 1.96 * sqrt(.25/100) = +- .098."""
    estimate = bootstrap_mean(torch.arange(100) % 2)
    assert estimate.value == 0.5
    assert estimate.low == pytest.approx(0.402, abs=0.02)
    assert estimate.high == pytest.approx(0.598, abs=0.02)


def test_interval_is_the_same_every_time():
    values = torch.rand(30)
    assert bootstrap_mean(values) == bootstrap_mean(values)


def test_nothing_to_average():
    assert math.isnan(bootstrap_mean(torch.tensor([])).value)


def test_macro_average_weighs_benchmarks_not_problems():
    average = macro_average([torch.ones(10), torch.zeros(1000)])
    assert average.value == 0.5
    # Both benchmarks are constant: resampling their problems changes nothing. Of 10 right ones the
    # interval begins at 10 / (10 + 1.96^2), of 1000 wrong ones it ends at 1.96^2 / (1000 + 1.96^2).
    average = macro_average([torch.ones(10), torch.zeros(1000)], span=SHARE)
    assert average.low == pytest.approx((10 / 13.8415 + 0) / 2, abs=1e-4)
    assert average.high == pytest.approx((1 + 3.8415 / 1003.8415) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("num_right", "num", "low", "high"),
    # Newcombe 1998, table I, method 3 (score): 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
     (1, 29, 0.0061, 0.1718), (256, 256, 0.9852, 1), (0, 32, 0, 0.1072)],
)  # fmt: skip
def test_the_interval_of_a_share_as_printed(num_right, num, low, high):
    for found in (
        wilson(num_right, num),
        share_over_problems(torch.tensor([1.0] * num_right + [0.0] * (num - num_right))),
    ):
        assert found.value == num_right / num
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    assert (found.low == 0) == (num_right == 0)
    assert (found.high == 1) == (num_right == num)


def test_several_answers_to_a_problem_are_resampled():
    values = torch.tensor([0.25, 0.5, 0.75, 1.0] * 8)
    assert share_over_problems(values) == bootstrap_mean(values)


@pytest.mark.parametrize("num", [1, 7, 256])
def test_problems_that_all_are_alike_are_no_certainty(num):
    unseen = wilson(0, num).high
    half = share_over_problems(torch.full((num,), 0.5))
    assert (half.low, half.high) == pytest.approx((0.5 - unseen / 2, 0.5 + unseen / 2))
    for value in (0.0, 1.0):
        constant = torch.full((num,), value)
        alike = macro_average([constant], span=SHARE)
        single = share_over_problems(constant)
        assert (alike.low, alike.high) == pytest.approx((single.low, single.high))
    same = paired_difference(torch.ones(num), torch.ones(num))
    assert (same.low, same.high) == pytest.approx((-unseen, unseen))
    better = paired_difference(torch.zeros(num), torch.ones(num))
    assert (better.low, better.high) == pytest.approx((1 - 2 * unseen, 1))
    assert macro_average([constant], span=DIFFERENCE).low == better.low


def outcomes(num_better, num_worse, num_same):
    """Problems that only the second run solves, only the first, and both."""
    before = [0] * num_better + [1] * num_worse + [1] * num_same
    after = [1] * num_better + [0] * num_worse + [1] * num_same
    return torch.tensor(before), torch.tensor(after)


@pytest.mark.parametrize(
    ("num_better", "num_worse", "value", "half_width", "excludes_zero"),
    [
        # variance 0.30 - 0.10^2 = 0.29; 1.96 * sqrt(0.29 / 100) = 0.106
        (20, 10, 0.10, 0.106, False),
        # variance 0.40 - 0.20^2 = 0.36; 1.96 * sqrt(0.36 / 100) = 0.118
        (30, 10, 0.20, 0.118, True),
        (10, 30, -0.20, 0.118, True),
        # No problem differs: at most 1.96^2 / (100 + 1.96^2) of others do.
        (0, 0, 0.0, 0.037, False),
    ],
)
def test_paired_difference_by_hand(num_better, num_worse, value, half_width, excludes_zero):
    difference = paired_difference(*outcomes(num_better, num_worse, 100 - num_better - num_worse))
    assert difference.value == pytest.approx(value)
    assert difference.low == pytest.approx(value - half_width, abs=0.02)
    assert difference.high == pytest.approx(value + half_width, abs=0.02)
    assert difference.excludes_zero is excludes_zero


def test_pairing_sees_what_separate_intervals_hide():
    """Half of the problems are hard for both runs; the second solves 8 of 200 more."""
    before, after = outcomes(8, 0, 92)
    hard = torch.zeros(100, dtype=before.dtype)
    before, after = torch.cat([before, hard]), torch.cat([after, hard])
    assert bootstrap_mean(before).high > bootstrap_mean(after).low
    assert paired_difference(before, after).excludes_zero


def test_an_interval_that_ends_at_zero_does_not_exclude_it():
    assert not Estimate(0.1, 0.0, 0.2).excludes_zero
    assert not Estimate(math.nan, math.nan, math.nan).excludes_zero


@pytest.mark.parametrize(
    ("answers", "index"),
    [(["a", "b", "b"], 1), (["a", "b", "b", "a"], 0), ([None, "b"], 1), ([None], None), ([], None)],
)
def test_majority(answers, index):
    assert majority(answers) == index


def test_a_paired_average_weighs_benchmarks_not_problems():
    small, large = outcomes(4, 0, 6), outcomes(0, 100, 900)
    average = paired_macro_average([small, large])
    assert average.value == pytest.approx((0.4 - 0.1) / 2)
    # Half of sqrt(0.24 / 10 + 0.09 / 1000) is 0.0776: mostly that of the small one.
    assert average.high - average.low == pytest.approx(2 * 1.96 * 0.0776, abs=0.03)


def test_a_ratio_of_sums():
    """400 problems, a + b of each: sum / sum, and the interval of the delta method."""
    generator = torch.Generator().manual_seed(0)
    below = torch.randint(0, 5, (400,), generator=generator)
    above = below * 10 + torch.randint(-3, 4, (400,), generator=generator) * (below > 0)
    estimate = bootstrap_ratio(above, below)
    value = (above.sum() / below.sum()).item()
    deviation = ((above - value * below).double().var() / 400).sqrt() / below.double().mean()
    assert estimate.value == pytest.approx(value)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * deviation.item(), rel=0.1)


def test_a_ratio_of_nothing():
    assert bootstrap_ratio(torch.zeros(3), torch.zeros(3)) is None
    assert bootstrap_ratio(torch.tensor([]), torch.tensor([])) is None
    # Resamples without the one problem that counts have no ratio.
    assert bootstrap_ratio(torch.tensor([6.0, 0.0]), torch.tensor([2.0, 0.0])) == Estimate(3, 3, 3)


@pytest.mark.parametrize(("largest", "powers"), [(0, []), (1, [1]), (3, [1, 2]), (8, [1, 2, 4, 8])])
def test_powers_of_two(largest, powers):
    assert powers_of_two(largest) == powers
