"""An advantage: the reward against the mean of the other rewards (RLOO, arXiv 2402.14740)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.objective.advantage import Advantage
from luffy_pl.registry import register


@register("advantage", "leave_one_out")
@dataclass(frozen=True)
class LeaveOneOut(Advantage):
    """The reward minus the mean reward of the other graded rows; 0 stands for a missing mean."""

    def compare(self, reward_N: Tensor, *, group_N: Tensor, is_off_policy_N: Tensor) -> Tensor:
        """The advantage of each row, [N]."""
        is_other_NN = (group_N[:, None] == group_N) & ~torch.eye(len(group_N), dtype=torch.bool)
        is_other_NN &= ~reward_N.isnan()
        sum_N = (is_other_NN * reward_N.nan_to_num()).sum(dim=1)
        return reward_N - sum_N / is_other_NN.sum(dim=1).clamp(min=1)
