import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luffy_pl.objective.advantage import (
    BatchDeviation,
    GroupAdvantage,
    LeaveOneOut,
    MaxRl,
    group_advantage,
    row_advantage,
)

NAN = math.nan


def advantage(
    reward: list[float],
    *,
    group: list[int] | None = None,
    off: list[int] | None = None,
    scale: str = "none",
    baseline: str = "all",
) -> list[float]:
    num_rows = len(reward)
    return group_advantage(
        torch.tensor(reward, dtype=torch.float64),
        group_N=torch.tensor(group or [0] * num_rows),
        is_off_policy_N=torch.tensor(off or [0] * num_rows).bool(),
        scale=scale,
        baseline=baseline,
    ).tolist()


def test_seven_wrong_rollouts_and_one_right_expert():
    # mean 1/8; unbiased deviation sqrt((7 * (1/8)^2 + (7/8)^2) / 7) = sqrt(8)/8 = sqrt(1/8)
    reward, off = [0.0] * 7 + [1.0], [0] * 7 + [1]
    assert advantage(reward, off=off) == [-0.125] * 7 + [0.875]
    scaled = advantage(reward, off=off, scale="group_std")
    assert scaled[7] == pytest.approx(0.875 / (math.sqrt(1 / 8) + 1e-6), rel=1e-12)
    # on-policy baseline: mean 0, all rollouts equal, so the deviation counts as 1
    assert advantage(reward, off=off, baseline="on_policy") == [0.0] * 7 + [1.0]
    scaled = advantage(reward, off=off, baseline="on_policy", scale="group_std")
    assert scaled == pytest.approx([0.0] * 7 + [1 / (1 + 1e-6)], rel=1e-12)


def test_groups_of_different_sizes_in_any_order():
    # group 7: rewards 1, 0, 0 -> mean 1/3; group -2: rewards 1, 0 -> mean 1/2
    reward, group = [1.0, 1.0, 0.0, 0.0, 0.0], [7, -2, 7, -2, 7]
    assert advantage(reward, group=group) == pytest.approx([2 / 3, 0.5, -1 / 3, -0.5, -1 / 3])


def test_a_group_of_one_keeps_its_reward():
    # as released: mean 0, deviation 1
    assert advantage([0.75]) == [0.75]
    assert advantage([0.75], scale="group_std") == pytest.approx([0.75 / (1 + 1e-6)], rel=1e-12)


def test_one_on_policy_row_as_the_only_baseline():
    # grpo_split with exactly one on row: mean 0, deviation 1, for the expert row as well
    assert advantage([0.5, 1.0], off=[0, 1], baseline="on_policy") == [0.5, 1.0]


def test_no_on_policy_row_means_no_baseline():
    assert advantage([0.5, 1.0], off=[1, 1], baseline="on_policy") == [0.5, 1.0]


def test_a_row_without_grade_has_no_advantage_and_no_vote():
    # graded rows 1, 0: mean 1/2, unbiased deviation sqrt(1/2)
    assert advantage([1.0, NAN, 0.0]) == [0.5, 0.0, -0.5]
    scaled = advantage([1.0, NAN, 0.0], scale="group_std")
    assert scaled == pytest.approx(
        [0.5 / (math.sqrt(0.5) + 1e-6), 0, -0.5 / (math.sqrt(0.5) + 1e-6)]
    )
    assert advantage([NAN, NAN]) == [0.0, 0.0]
    assert advantage([NAN, 1.0, 0.0, 0.5], off=[1, 1, 0, 0], baseline="on_policy") == [
        0.0,
        0.75,
        -0.25,
        0.25,
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_have_no_deviation_even_where_their_mean_rounds(dtype: torch.dtype):
    # 7 * 0.1 / 7 is not 0.1 in float64; its "deviation" of 1e-17 would make the expert 9e5.
    # The second group comes first in the record, so that rows and groups do not share numbers.
    reward_N = torch.tensor([0.5, 0.0] + [0.1] * 7 + [1.0], dtype=dtype)
    advantage_N = group_advantage(
        reward_N,
        group_N=torch.tensor([1] * 2 + [0] * 8),
        is_off_policy_N=torch.tensor([0] * 9 + [1]).bool(),
        scale="group_std",
        baseline="on_policy",
    )
    assert advantage_N.dtype == dtype
    expected_N = torch.tensor([0.0] * 7 + [0.9 / (1 + 1e-6)], dtype=dtype)
    torch.testing.assert_close(advantage_N[2:], expected_N, rtol=1e-6, atol=1e-7)


ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0, -1.0, NAN]), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=24,
)


def one_row_by_definition(
    index: int, rows: list[tuple[float, int, bool]], *, scale: str, baseline: str
) -> float:
    reward, group, _ = rows[index]
    if math.isnan(reward):
        return 0.0
    counted = [
        r for r, g, off in rows if g == group and r == r and not (off and baseline == "on_policy")
    ]
    mean = sum(counted) / len(counted) if len(counted) > 1 else 0.0
    std = 1.0
    if len(set(counted)) > 1:
        std = math.sqrt(sum((r - mean) ** 2 for r in counted) / (len(counted) - 1))
    return (reward - mean) / (std + 1e-6 if scale == "group_std" else 1.0)


@settings(deadline=None)
@given(
    rows=ROWS,
    scale=st.sampled_from(["none", "group_std"]),
    baseline=st.sampled_from(["all", "on_policy"]),
)
def test_equals_the_definition_row_by_row(
    rows: list[tuple[float, int, bool]], scale: str, baseline: str
):
    reward, group, off = (list(column) for column in zip(*rows, strict=True))
    ours = advantage(reward, group=group, off=off, scale=scale, baseline=baseline)
    expected = [
        one_row_by_definition(i, rows, scale=scale, baseline=baseline) for i in range(len(rows))
    ]
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-9)


def rows_of(config, reward, group, *, off=(), dtype=torch.float64, **options):
    """The advantages of `row_advantage` as a list."""
    num_rows = len(reward)
    return row_advantage(
        torch.tensor(reward, dtype=dtype),
        group_N=torch.tensor(group),
        is_off_policy_N=torch.tensor(off or [0] * num_rows).bool(),
        is_truncated_N=torch.zeros(num_rows).bool(),
        config=config,
        **options,
    ).tolist()


REWARD, GROUP = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, NAN], [3, 3, 3, 3, 5, 5, 5]


def test_leave_one_out_by_hand():
    # 1 - 0; 0 - 1/3, three times; 1 - 1, twice; nothing without a grade.
    found = rows_of(LeaveOneOut(), REWARD, GROUP)
    assert found == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3, 0, 0, 0])
    # The expert's row is compared with the rollouts, which do not see it.
    found = rows_of(LeaveOneOut("keep", "on_policy"), [1.0, 0.5, 0.0], [0] * 3, off=[1, 0, 0])
    assert found == [0.75, 0.5, -0.5]
    assert rows_of(LeaveOneOut(), [0.75], [0]) == [0.75]


def test_max_rl_weighs_a_prompt_by_one_over_its_mean():
    # Means 1/4 and 1: (1 - 1/4) / (1/4) = 3.
    assert rows_of(MaxRl(), REWARD, GROUP) == [3.0, -1.0, -1.0, -1.0, 0.0, 0.0, 0.0]
    # No success, and a mean below 0: nothing to divide by.
    assert rows_of(MaxRl(), [0.0, 0.0, -1.0, 0.5], [0, 0, 1, 1]) == [0.0] * 4


def test_the_deviation_of_the_batch_is_that_of_all_ranks():
    centred = [0.75, -0.25, -0.25, -0.25, 0.0, 0.0]
    deviation = torch.tensor(centred, dtype=torch.float64).std().item() + 1e-6
    expected = [value / deviation for value in centred]
    assert rows_of(BatchDeviation(), REWARD, GROUP) == pytest.approx([*expected, 0.0])
    # Two ranks with a group each: what one sums, the other's sums are added to.
    seen, others = [], {}
    for rank, rows in (("first", slice(0, 4)), ("second", slice(4, 7))):
        rows_of(BatchDeviation(), REWARD[rows], GROUP[rows],
                sum_over_ranks=lambda sums, rank=rank: others.setdefault(rank, sums))  # fmt: skip
    for rank, rows in (("second", slice(0, 4)), ("first", slice(4, 7))):
        seen += rows_of(BatchDeviation(), REWARD[rows], GROUP[rows],
                        sum_over_ranks=lambda sums, rank=rank: sums + others[rank])  # fmt: skip
    assert seen == pytest.approx([*expected, 0.0])
    assert rows_of(BatchDeviation(), [0.1] * 7, [0] * 7) == pytest.approx([0.0] * 7, abs=1e-9)


@pytest.mark.parametrize("config", [LeaveOneOut(), MaxRl(), BatchDeviation(), GroupAdvantage()])
def test_the_order_of_rows_changes_no_advantage(config):
    order = [6, 2, 4, 0, 5, 3, 1]
    found = rows_of(config, [REWARD[i] for i in order], [GROUP[i] for i in order])
    whole = rows_of(config, REWARD, GROUP)
    assert found == pytest.approx([whole[i] for i in order], abs=1e-15)
