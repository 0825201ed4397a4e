"""Advantage of each row: its reward against the other answers to the same prompt.

Shapes in this file: N rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from luffy_pl.registry import register

AdvantageScale = Literal["none", "group_std"]
Baseline = Literal["all", "on_policy"]
SumOverRanks = Callable[[Tensor], Tensor]

# Added to the standard deviation by the released code.
STD_EPSILON = 1e-6


@dataclass(frozen=True)
class Advantage(ABC):
    """How the rewards of a group become advantages.

    asks_ranks: whether `over_ranks` is called, which every rank does together.
    """

    asks_ranks: ClassVar[bool] = False

    truncated: Literal["keep", "zero", "mask"] = "keep"
    """A row that ran into the length limit: keep it; give it advantage 0, still counted by the
    divisors; or mask it out of every term (DAPO's overlong filter)."""

    @abstractmethod
    def compare(self, reward_N: Tensor, *, group_N: Tensor, is_off_policy_N: Tensor) -> Tensor:
        """The advantage of each row, [N].

        Args:
            reward_N: NaN for a row without a grade, whose advantage is ignored.
            group_N: any integers; rows of a group need not be neighbours.
            is_off_policy_N: rows that somebody else wrote or began.
        """

    def over_ranks(
        self, advantage_N: Tensor, is_graded_N: Tensor, sum_over_ranks: SumOverRanks
    ) -> Tensor:
        """The advantage of each row after a look at the rows of all ranks, [N].

        Args:
            advantage_N: what `compare` gave; 0 without a grade.
        """
        return advantage_N


@register("advantage", "group")
@dataclass(frozen=True)
class GroupAdvantage(Advantage):
    """The reward minus the mean of its group (GRPO, Dr. GRPO, LUFFY).

    Reference: GRPO, arXiv 2402.03300, section 4.1; without scale, Dr. GRPO, arXiv 2503.20783.
    """

    scale: AdvantageScale = "none"
    """What a centered reward is divided by: nothing (Dr. GRPO) or the group's deviation (GRPO)."""
    baseline: Baseline = "all"
    """Whose rewards form the group's mean: all rows (LUFFY) or the policy's own."""
    rollouts: Literal["group", "sign"] = "group"
    """group: compared within the group; sign: 1 for a rollout with a reward above 0, else -1
    (SRFT), while other rows are still compared."""

    def compare(self, reward_N: Tensor, *, group_N: Tensor, is_off_policy_N: Tensor) -> Tensor:
        """`group_advantage`, with signs for rollouts if the settings say so."""
        advantage_N = group_advantage(
            reward_N,
            group_N=group_N,
            is_off_policy_N=is_off_policy_N,
            scale=self.scale,
            baseline=self.baseline,
        )
        if self.rollouts == "sign":
            sign_N = torch.where(reward_N > 0, 1.0, -1.0).to(reward_N.dtype)
            is_signed_N = ~is_off_policy_N.bool() & ~reward_N.isnan()
            advantage_N = torch.where(is_signed_N, sign_N, advantage_N)
        return advantage_N


@dataclass(frozen=True)
class AgainstBaseline(Advantage):
    """The reward minus a mean of its group."""

    baseline: Baseline = "all"
    """Whose rewards form the mean: all rows, or the policy's own."""

    def compare(self, reward_N: Tensor, *, group_N: Tensor, is_off_policy_N: Tensor) -> Tensor:
        """The reward minus the group's mean."""
        return group_advantage(
            reward_N,
            group_N=group_N,
            is_off_policy_N=is_off_policy_N,
            scale="none",
            baseline=self.baseline,
        )


@register("advantage", "rloo")
@dataclass(frozen=True)
class LeaveOneOut(AgainstBaseline):
    """The reward minus the mean of the other rows of its group (RLOO, arXiv 2402.14740).

    Where there is no other the mean is 0.
    """

    def compare(self, reward_N: Tensor, *, group_N: Tensor, is_off_policy_N: Tensor) -> Tensor:
        """The reward minus the mean of the others."""
        counted_N = baseline_rows(reward_N, is_off_policy_N, self.baseline)
        sum_N, count_N = _group_sum_and_count(reward_N, group_N=group_N, counted_N=counted_N)
        own_N = reward_N.double().masked_fill(~counted_N, 0.0)
        mean_N = (sum_N - own_N) / (count_N - counted_N.double()).clamp(min=1)
        return (reward_N.double() - mean_N).to(reward_N.dtype)


@register("advantage", "max_rl")
@dataclass(frozen=True)
class MaxRl(AgainstBaseline):
    """The reward minus the group's mean, divided by that mean (MaxRL, arXiv 2602.02710).

    With rewards of 0 and 1 a prompt weighs 1 / p, as the likelihood of a right answer does. Rewards
    are meant to be at least 0: a group whose mean is not above 0 has advantages of 0.
    """

    def compare(self, reward_N: Tensor, *, group_N: Tensor, is_off_policy_N: Tensor) -> Tensor:
        """The centred reward divided by the mean."""
        counted_N = baseline_rows(reward_N, is_off_policy_N, self.baseline)
        sum_N, count_N = _group_sum_and_count(reward_N, group_N=group_N, counted_N=counted_N)
        mean_N = sum_N / count_N.clamp(min=1)
        advantage_N = (reward_N.double() - mean_N) / mean_N.masked_fill(mean_N <= 0, 1.0)
        return advantage_N.masked_fill(mean_N <= 0, 0.0).to(reward_N.dtype)


@register("advantage", "batch_std")
@dataclass(frozen=True)
class BatchDeviation(AgainstBaseline):
    """The reward minus the group's mean, divided by the deviation over the rows of all ranks.

    Lite PPO (arXiv 2508.08221), ScaleRL (arXiv 2510.13786). The deviation is the unbiased one of
    all centred rewards of the phase.
    """

    asks_ranks: ClassVar[bool] = True

    def over_ranks(
        self, advantage_N: Tensor, is_graded_N: Tensor, sum_over_ranks: SumOverRanks
    ) -> Tensor:
        """The centred reward divided by the deviation of all of them."""
        value_N = advantage_N.double()
        local_3 = torch.stack([is_graded_N.sum(), value_N.sum(), value_N.square().sum()])
        count, total, squares = sum_over_ranks(local_3.double()).tolist()
        variance = (squares - total * total / max(count, 1)) / max(count - 1, 1)
        return (value_N / (math.sqrt(max(variance, 0.0)) + STD_EPSILON)).to(advantage_N.dtype)


def row_advantage(
    reward_N: Tensor,
    *,
    group_N: Tensor,
    is_off_policy_N: Tensor,
    is_truncated_N: Tensor,
    config: Advantage,
    sum_over_ranks: SumOverRanks = lambda value: value,
) -> Tensor:
    """The advantage of each row, [N]; 0 without a grade (NaN) and, if so set, where truncated."""
    advantage_N = config.compare(reward_N, group_N=group_N, is_off_policy_N=is_off_policy_N)
    advantage_N = advantage_N.masked_fill(reward_N.isnan(), 0.0)
    if config.asks_ranks:
        advantage_N = config.over_ranks(advantage_N, ~reward_N.isnan(), sum_over_ranks)
    if config.truncated != "keep":
        advantage_N = advantage_N.masked_fill(is_truncated_N, 0.0)
    return advantage_N


def group_advantage(
    reward_N: Tensor,
    *,
    group_N: Tensor,
    is_off_policy_N: Tensor,
    scale: AdvantageScale,
    baseline: Baseline,
) -> Tensor:
    """Reward minus the group's mean, divided by its standard deviation or by nothing, [N].

    The statistics are over the graded rows of the group, or over its graded on-policy rows if
    `baseline` is "on_policy"; off-policy rows are then compared with a mean they are not part
    of. The deviation is the unbiased one. Where fewer than two rows form the baseline the mean
    is 0 and the deviation 1, and where all of them have one reward the deviation is 1, as in
    the released code.

    Args:
        reward_N: NaN for a row without a grade, which gets advantage 0.
        group_N: any integers; rows of a group need not be neighbours.
    """
    is_graded_N = ~reward_N.isnan()
    in_baseline_N = baseline_rows(reward_N, is_off_policy_N, baseline)
    mean_N, std_N = _group_mean_and_std(reward_N, group_N=group_N, counted_N=in_baseline_N)
    advantage_N = reward_N.double() - mean_N
    if scale == "group_std":
        advantage_N = advantage_N / (std_N + STD_EPSILON)
    return advantage_N.masked_fill(~is_graded_N, 0.0).to(reward_N.dtype)


def baseline_rows(reward_N: Tensor, is_off_policy_N: Tensor, baseline: Baseline) -> Tensor:
    """Rows whose rewards others are compared with, [N]: graded ones, of all or of the policy."""
    is_graded_N = ~reward_N.isnan()
    return is_graded_N & ~is_off_policy_N.bool() if baseline == "on_policy" else is_graded_N


def _group_sum(value_N: Tensor, group_N: Tensor) -> Tensor:
    """The sum over the rows of each row's group, [N]."""
    index_N = group_N.unique(return_inverse=True)[1]
    return torch.zeros_like(value_N).index_add(0, index_N, value_N)[index_N]


def _group_sum_and_count(
    reward_N: Tensor, *, group_N: Tensor, counted_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum and number of the counted rows of each row's group, both [N] in float64."""
    value_N = reward_N.double().masked_fill(~counted_N, 0.0)
    return _group_sum(value_N, group_N), _group_sum(counted_N.double(), group_N)


def _group_mean_and_std(
    reward_N: Tensor, *, group_N: Tensor, counted_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation of the counted rows of each row's group, both [N] in float64."""
    index_N = group_N.unique(return_inverse=True)[1]

    def group_max(value_N: Tensor) -> Tensor:
        value_N = value_N.masked_fill(~counted_N, -math.inf)
        lowest_N = torch.full_like(value_N, -math.inf)
        return lowest_N.scatter_reduce(0, index_N, value_N, "amax")[index_N]

    value_N = reward_N.double().masked_fill(~counted_N, 0.0)
    sum_N, count_N = _group_sum_and_count(reward_N, group_N=group_N, counted_N=counted_N)
    mean_N = sum_N / count_N.clamp(min=1)
    square_N = (value_N - mean_N).square().masked_fill(~counted_N, 0.0)
    std_N = (_group_sum(square_N, group_N) / (count_N - 1).clamp(min=1)).sqrt()
    # Rounding of the mean can give equal rewards a tiny deviation, and a row outside the
    # baseline would then be divided by it.
    is_constant_N = group_max(value_N) + group_max(-value_N) == 0
    return (
        mean_N.masked_fill(count_N < 2, 0.0),
        std_N.masked_fill((count_N < 2) | is_constant_N, 1.0),
    )
