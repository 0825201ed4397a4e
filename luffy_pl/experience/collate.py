"""Pad graded groups to one record.

Shapes: N rows, L tokens of the longest row, T = L - 1 predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luffy_pl.records import Experience, Group, Response


@dataclass(frozen=True)
class Steps:
    """The optimizer steps of a phase: that of each group, and which steps only imitate."""

    of_group: tuple[int, ...]
    imitates: tuple[bool, ...]


def plan_steps(num_groups: int, num_steps: int, *, num_imitated: int = 0) -> Steps:
    """Equal runs of groups, one for each step; the last `num_imitated` groups in one more step.

    If all groups are imitated, every step does nothing else.
    """
    num_compared = num_groups - num_imitated
    if not num_compared:
        run = tuple(group * num_steps // num_groups for group in range(num_groups))
        return Steps(run, (True,) * num_steps)
    run = tuple(group * num_steps // num_compared for group in range(num_compared))
    extra = (num_steps,) * num_imitated
    return Steps(run + extra, (False,) * num_steps + (True,) * bool(num_imitated))


def collate(
    groups: Sequence[Group],
    *,
    phase: int,
    temperature: float,
    steps: Steps,
    masks_truncated: bool = False,
    teacher_sees_more: bool = False,
) -> Experience:
    """Pad the rows of all groups on the right; advantages are NaN until `compare` makes them.

    `masks_truncated` leaves rows that ran into the length limit out of every term;
    `teacher_sees_more` says that rows are taught under prompts of their own.
    """
    rows = [(group, response) for group in groups for response in group.responses]
    lengths = [len(group.prompt.token_ids) + len(row.token_ids) for group, row in rows]
    num_rows, longest = len(rows), max(lengths)
    token_ids_NL = torch.zeros(num_rows, longest, dtype=torch.long)
    response_mask_NT = torch.zeros(num_rows, longest - 1, dtype=torch.bool)
    given_mask_NT = torch.zeros(num_rows, longest - 1, dtype=torch.bool)
    behaviour_NT = torch.zeros(num_rows, longest - 1)
    sampler_NT = torch.zeros(num_rows, longest - 1)
    rewards = [reward for group in groups for reward in group.rewards]
    for index, (group, response) in enumerate(rows):
        prompt = group.prompt.token_ids
        token_ids_NL[index, : lengths[index]] = torch.tensor(prompt + response.token_ids)
        first, end = len(prompt) - 1, lengths[index] - 1
        sampled = first + response.num_given
        response_mask_NT[index, first:end] = is_learned(response, rewards[index], masks_truncated)
        given_mask_NT[index, first:sampled] = True
        if response.given_logprobs is not None:
            behaviour_NT[index, first:sampled], is_known_t = finite(response.given_logprobs)
            response_mask_NT[index, first:sampled] &= is_known_t
        if response.logprobs is not None:
            sampler_NT[index, sampled:end], is_known_t = finite(response.logprobs)
            response_mask_NT[index, sampled:end] &= is_known_t

    responses = [row for _, row in rows]
    reward_N = torch.tensor([float("nan") if r is None else r for r in rewards])
    group_N = torch.tensor([i for i, group in enumerate(groups) for _ in group.responses])
    return Experience(
        phase=phase,
        temperature=temperature,
        token_ids_NL=token_ids_NL,
        num_tokens_N=torch.tensor(lengths),
        response_mask_NT=response_mask_NT,
        off_policy_mask_NT=response_mask_NT & given_mask_NT,
        behaviour_logprob_NT=behaviour_NT,
        sampler_logprob_NT=sampler_NT if has_sampler_logprobs(responses) else None,
        policy_version_N=torch.tensor([row.policy_version for row in responses]),
        advantage_N=torch.full_like(reward_N, torch.nan),
        reward_N=reward_N,
        group_N=group_N,
        in_policy_N=torch.tensor([row.role in ("both", "policy") for row in responses]),
        in_imitation_N=torch.tensor([row.role in ("both", "imitation") for row in responses]),
        step_N=torch.tensor(steps.of_group)[group_N],
        step_imitates=steps.imitates,
        groups=tuple(groups),
        **(teacher_fields(responses) if teacher_sees_more else {}),
    )


def teacher_fields(responses: Sequence[Response]) -> dict[str, Any]:
    """The fields of the record about prompts that a teacher sees instead of the policy's."""
    prompts = [row.teacher_prompt for row in responses]
    seen = tuple(() if prompt is None else prompt.token_ids for prompt in prompts)
    return {"is_taught_N": torch.tensor([bool(ids) for ids in seen]), "teacher_prompts": seen}


def finite(logprobs: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and which are there: an engine may have no number for a token.

    Nothing is known of the ratio of such a token, which gets a 0.
    """
    logprob_t = torch.tensor(logprobs)
    return logprob_t.nan_to_num(0.0, 0.0, 0.0), logprob_t.isfinite()


def candidates(
    rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], *, temperature: float
) -> Experience:
    """(prompt, response) pairs as a record that is only looked at, never learned from."""
    lengths = [len(prompt) + len(response) for prompt, response in rows]
    token_ids_NL = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    mask_NT = torch.zeros(len(rows), max(lengths) - 1, dtype=torch.bool)
    for index, (prompt, response) in enumerate(rows):
        token_ids_NL[index, : lengths[index]] = torch.tensor(prompt + response)
        mask_NT[index, len(prompt) - 1 : lengths[index] - 1] = True
    nothing_N = torch.zeros(len(rows))
    return Experience(
        phase=0,
        temperature=temperature,
        token_ids_NL=token_ids_NL,
        num_tokens_N=torch.tensor(lengths),
        response_mask_NT=mask_NT,
        off_policy_mask_NT=torch.zeros_like(mask_NT),
        behaviour_logprob_NT=torch.zeros(mask_NT.shape),
        advantage_N=nothing_N,
        reward_N=nothing_N,
        group_N=torch.arange(len(rows)),
        in_policy_N=nothing_N.bool(),
        in_imitation_N=nothing_N.bool(),
        step_N=nothing_N.long(),
        step_imitates=(),
    )


def is_learned(response: Response, reward: float | None, masks_truncated: bool) -> bool:
    """Whether a row is trained on; without a grade it has no advantage, but can be imitated."""
    if response.role == "imitation":
        return True
    is_masked = is_truncated(response) and masks_truncated
    return reward is not None and response.role != "none" and not is_masked


def is_truncated(response: Response) -> bool:
    """Whether the policy ran into the length limit."""
    return response.finish_reason == "length"


def engine_logprobs(response: Response) -> Sequence[float]:
    """What the engine said of the tokens that it sampled for a row in this phase; may be empty."""
    of_row = response.given_logprobs if response.source == "hinted" else response.logprobs
    return of_row or ()


def has_sampler_logprobs(responses: Sequence[Response]) -> bool:
    """Whether every sampled token came with the engine's log-probability, however few there are."""
    return all(row.logprobs is not None or row.num_given == len(row.token_ids) for row in responses)
