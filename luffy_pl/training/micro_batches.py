"""Micro-batches: the rows of an optimizer step, cut into what one forward pass takes.

Shapes: N rows of this rank, n rows of a micro-batch, T predictions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from luffy_pl.objective.terms import OptimizerStep
from luffy_pl.process.staging import on_device
from luffy_pl.records import Experience


@dataclass(frozen=True)
class MicroBatch:
    """Rows of a record that go through the model together.

    index_n: position of each row in the record; empty for a silent micro-batch.
    num_tokens: length of each row, on the host.
    num_shared: leading prompt tokens that each row shares with the previous row of its group; they
        are computed only once.
    is_learned: whether the loss of its rows has a gradient.
    """

    index_n: Tensor
    rows: Experience
    num_tokens: tuple[int, ...]
    num_shared: tuple[int, ...]
    is_learned: bool = True

    @property
    def num_computed(self) -> int:
        """Tokens that go through the model."""
        return sum(self.num_tokens) - len(self.num_tokens) - sum(self.num_shared)


def rows_by_step(experience: Experience) -> list[list[int]]:
    """The rows of each optimizer step of a phase."""
    step_N = experience.on_host.step_N
    steps = range(len(experience.step_imitates))
    return [(step_N == step).nonzero()[:, 0].tolist() for step in steps]


def micro_batches(
    experience: Experience,
    rows: list[int],
    *,
    token_budget: int,
    shares_prompts: bool,
    packs_rows: bool = True,
) -> list[MicroBatch]:
    """Cut those of `rows` that have a token to learn from into micro-batches.

    Rows that were dealt to this rank are in the micro-batches that they were dealt in.

    Args:
        token_budget: most tokens of a micro-batch.
        shares_prompts: whether the rows of a group in a micro-batch share their prompt's tokens.
        packs_rows: whether they go through the model without padding.
    """
    host, device = experience.on_host, experience.token_ids_NL.device
    lengths = host.num_tokens_N.tolist()
    is_trained = host.response_mask_NT.any(dim=1).tolist()
    rows = [row for row in rows if is_trained[row]]
    group_N = host.group_N.tolist()
    prompt_N = prompt_lengths(host, shares_prompts)
    of_rows = [lengths[row] for row in rows]
    if host.micro_N is not None:
        cut = by_number(host.micro_N.tolist(), rows)
    else:
        positions = (
            micro_batch_rows(
                of_rows,
                token_budget=token_budget,
                group=[group_N[row] for row in rows],
                num_prompt=[prompt_N[row] for row in rows],
            )
            if packs_rows
            else rows_of_like_length(of_rows, token_budget=token_budget)
        )
        cut = [[rows[i] for i in batch] for batch in positions]
    micros = []
    for chosen in cut:
        index_n = torch.tensor(chosen)
        num_tokens = tuple(lengths[row] for row in chosen)
        follows = [group_N[a] == group_N[b] for a, b in pairwise(chosen)]
        num_shared = tuple(
            prompt_N[row] * is_next for row, is_next in zip(chosen, [False, *follows], strict=True)
        )
        placed_n = on_device(index_n, device)
        micros.append(MicroBatch(placed_n, experience.rows(index_n), num_tokens, num_shared))
    return micros


def prompt_lengths(host: Experience, shares_prompts: bool) -> list[int]:
    """Tokens of each row's prompt that its group may share."""
    # A record without groups is one of `candidates`, whose rows have different prompts.
    prompts = [len(group.prompt.token_ids) if shares_prompts else 0 for group in host.groups]
    return [prompts[group] if prompts else 0 for group in host.group_N.tolist()]


def by_number(numbers: Sequence[int], rows: Sequence[int]) -> list[list[int]]:
    """Rows of the same number together, the smallest number first."""
    found: dict[int, list[int]] = {}
    for row in sorted(rows, key=lambda row: numbers[row]):
        found.setdefault(numbers[row], []).append(row)
    return list(found.values())


def micro_batch_rows(
    num_tokens: Sequence[int],
    *,
    token_budget: int,
    group: Sequence[int],
    num_prompt: Sequence[int],
) -> list[list[int]]:
    """Distribute rows over micro-batches within the budget; returns positions in `num_tokens`.

    Groups are sorted by their longest row, rows within a group by length; the rows of a group stay
    adjacent. Each row goes to the micro-batch that holds its group, or else to the fullest one with
    room, which makes few micro-batches and nearly full ones. A row above the budget stands alone.

    Args:
        group: group of each row.
        num_prompt: prompt tokens that the rows of a group share; they count once per micro-batch.
    """
    longest: dict[int, int] = {}
    for one, length in zip(group, num_tokens, strict=True):
        longest[one] = max(longest.get(one, 0), length)
    batches: list[list[int]] = []
    used: list[int] = []

    def by_length(row: int) -> tuple[int, ...]:
        return -longest[group[row]], group[row], -num_tokens[row], row

    for row in sorted(range(len(num_tokens)), key=by_length):
        own = num_tokens[row] - num_prompt[row]
        costs = [own if group[there[-1]] == group[row] else num_tokens[row] for there in batches]
        room = [i for i, cost in enumerate(costs) if used[i] + cost <= token_budget]
        if room:
            best = max(room, key=lambda i: (num_tokens[row] - costs[i], used[i]))
            batches[best].append(row)
            used[best] += costs[best]
        else:
            batches.append([row])
            used.append(num_tokens[row])
    return batches


def rows_of_like_length(num_tokens: Sequence[int], *, token_budget: int) -> list[list[int]]:
    """Distribute rows that go side by side, whose padding counts; see `micro_batch_rows`."""
    left = sorted(range(len(num_tokens)), key=lambda row: (-num_tokens[row], row))
    batches = []
    while left:
        room = max(1, token_budget // num_tokens[left[0]])
        batches.append(left[:room])
        left = left[room:]
    return batches


def rows_without_gradient(experience: Experience, rows: list[int], step: OptimizerStep) -> set[int]:
    """Those of `rows` that the loss gives no gradient: advantage 0, and no term but the policy's.

    In a group whose rewards are all equal that is every row.
    """
    if set(step.terms) != {"policy"} or step.objective.distillation is not None:
        return set()
    is_even_N = (experience.on_host.advantage_N == 0).tolist()
    return {row for row in rows if is_even_N[row]}


def learned_and_read(
    experience: Experience,
    rows: list[int],
    step: OptimizerStep,
    cut: Callable[[Experience, list[int]], list[MicroBatch]],
    *,
    num_ranks: int,
) -> list[MicroBatch]:
    """The micro-batches of a step, in which rows without gradient are apart and read without one.

    Several ranks gather sharded weights together in every pass, and make all of them.

    Args:
        cut: rows into micro-batches.
    """
    even = rows_without_gradient(experience, rows, step) if num_ranks == 1 else set()
    if not even:
        return cut(experience, rows)
    learned = [row for row in rows if row not in even]
    found = cut(experience, learned) if learned else []
    read = cut(experience, [row for row in rows if row in even])
    return found + [dataclasses.replace(micro, is_learned=False) for micro in read]


def silent(experience: Experience) -> MicroBatch:
    """A micro-batch of one row that has nothing to learn from and no place in the record."""
    shortest = experience.on_host.num_tokens_N.argmin()[None]
    one = unlearned(experience.rows(shortest))
    nowhere = shortest[:0].to(one.token_ids_NL.device)
    return MicroBatch(nowhere, one, (one.token_ids_NL.shape[1],), (0,))


def unlearned(record: Experience) -> Experience:
    """A copy of the record without a token to learn from."""
    nothing_nt = torch.zeros_like(record.response_mask_NT)
    host = None if record.host is None else unlearned(record.host)
    return dataclasses.replace(
        record, response_mask_NT=nothing_nt, off_policy_mask_NT=nothing_nt, host=host
    )
