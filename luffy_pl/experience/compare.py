"""Compare the rows of each group: rewards become advantages."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from luffy_pl.experience.collate import is_truncated
from luffy_pl.objective.advantage import Advantage, SumOverRanks, row_advantage
from luffy_pl.records import Experience


def compare(
    experience: Experience,
    penalty_N: Tensor | None,
    config: Advantage,
    *,
    sum_over_ranks: SumOverRanks = lambda value: value,
) -> Experience:
    """Return the record with the advantage of each row.

    Args:
        penalty_N: taken off each row's reward before rewards are compared, [N]; None takes nothing.
        sum_over_ranks: adds up a tensor over ranks.
    """
    rows = [row for group in experience.groups for row in group.responses]
    reward_N = experience.reward_N if penalty_N is None else experience.reward_N - penalty_N
    advantage_N = row_advantage(
        reward_N,
        group_N=experience.group_N,
        is_off_policy_N=torch.tensor([row.source != "rollout" for row in rows]),
        is_truncated_N=torch.tensor([is_truncated(row) for row in rows]),
        config=config,
        sum_over_ranks=sum_over_ranks,
    )
    return dataclasses.replace(experience, advantage_N=advantage_N)
