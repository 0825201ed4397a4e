"""Rows that go to the rank that trains them, and what it saw of them, which comes back.

Shapes: N rows of a record, L tokens of its longest row, T = L - 1 predictions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from luffy_pl.records import Experience, Group, Prompt
from luffy_pl.training.dealing import RowSize, deal
from luffy_pl.training.micro_batches import prompt_lengths

T = TypeVar("T")
Places = list[int]


@dataclass(frozen=True)
class Dealt:
    """A phase as this rank trains it.

    rows: the record to train, on the device of the collected one.
    collected: this rank's own record.
    given: for each rank, the places in `collected` of the rows that it trains.
    taken: for each rank, the places in `rows` of those that it collected.
    group: of all ranks, on the host; None: no row has moved.
    """

    rows: Experience
    collected: Experience
    given: Sequence[Places] = ()
    taken: Sequence[Places] = ()
    group: dist.ProcessGroup | None = None

    def returned(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values [N, T] of `rows` as values of `collected`; every rank calls this together."""
        if self.group is None:
            return dict(values)
        on_host = {name: value.cpu() for name, value in values.items()}
        parts = [{name: value[p] for name, value in on_host.items()} for p in self.taken]
        back = exchanged(parts, self.group)
        num_rows, num_predictions = self.collected.response_mask_NT.shape
        found = {}
        for name, value in on_host.items():
            own_NT = value.new_zeros(num_rows, num_predictions)
            for places, part in zip(self.given, back, strict=True):
                width = min(num_predictions, part[name].shape[1])
                own_NT[places, :width] = part[name][:, :width]
            found[name] = own_NT.to(values[name].device)
        return found


def deal_rows(
    experience: Experience,
    group: dist.ProcessGroup | None,
    *,
    token_budget: int,
    shares_prompts: bool,
) -> Dealt:
    """Deal the rows of a phase by tokens; every rank calls this together.

    Rows without a token to learn from stay where they are.

    Args:
        group: of all ranks, on the host; None for a rank that is alone.
        token_budget, shares_prompts: see `micro_batches`.
    """
    if group is None or dist.get_world_size(group) == 1:
        return Dealt(experience, experience)
    rank, num_ranks = dist.get_rank(group), dist.get_world_size(group)
    host = experience.on_host
    sizes: list[list[RowSize]] = [[] for _ in range(num_ranks)]
    dist.all_gather_object(sizes, row_sizes(host, rank, shares_prompts), group=group)
    steps = range(len(experience.step_imitates))
    hands = [
        deal(
            [row for rows in sizes for row in rows if row.step == step],
            num_ranks=num_ranks,
            token_budget=token_budget,
        )
        for step in steps
    ]
    if not all(any(hand[one] for hand in hands) for one in range(num_ranks)):
        return Dealt(experience, experience)  # too few rows for all of them
    numbers = {
        (row.owner, row.place): (to, number)
        for hand in hands
        for to, batches in enumerate(hand)
        for number, batch in enumerate(batches)
        for row in batch
    }
    given: list[Places] = [[] for _ in range(num_ranks)]
    micro_N = torch.full_like(host.group_N, -1)
    for place in range(len(micro_N)):
        to, micro_N[place] = numbers.get((rank, place), (rank, -1))
        given[to].append(place)
    numbered = dataclasses.replace(host, micro_N=micro_N)
    parts = exchanged([part_of(numbered, places) if places else None for places in given], group)
    lengths = [0 if part is None else len(part.num_tokens_N) for part in parts]
    ends = [*accumulate(lengths)]
    return Dealt(
        joined([part for part in parts if part is not None]).to(experience.token_ids_NL.device),
        experience,
        given,
        [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)],
        group,
    )


def row_sizes(host: Experience, rank: int, shares_prompts: bool) -> list[RowSize]:
    """The rows of a rank that have a token to learn from."""
    is_trained = host.response_mask_NT.any(dim=1).tolist()
    values = zip(
        host.step_N.tolist(),
        host.group_N.tolist(),
        host.num_tokens_N.tolist(),
        prompt_lengths(host, shares_prompts),
        strict=True,
    )
    return [RowSize(rank, place, *row) for place, row in enumerate(values) if is_trained[place]]


def part_of(host: Experience, places: Places) -> Experience:
    """Rows of a record as they travel: of their groups, what training reads of a prompt."""
    part = host.rows(torch.tensor(places))
    numbers, group_n = part.group_N.unique(return_inverse=True)
    prompts = [host.groups[number].prompt for number in numbers.tolist()]
    groups = tuple(Group(Prompt(one.id, "", one.token_ids, ""), (), ()) for one in prompts)
    return dataclasses.replace(
        part, group_N=group_n, groups=groups, sampled=(), hints={}, timings_s={}
    )


def joined(parts: Sequence[Experience]) -> Experience:
    """One record of several, padded to the longest row; groups get new numbers."""
    longest = max(part.token_ids_NL.shape[1] for part in parts)
    starts = [0, *accumulate(len(part.groups) for part in parts)]
    parts = [
        dataclasses.replace(part, group_N=part.group_N + start)
        for part, start in zip(parts, starts, strict=False)
    ]
    together: dict[str, Any] = {"groups": tuple(chain.from_iterable(one.groups for one in parts))}
    if parts[0].teacher_prompts is not None:
        together["teacher_prompts"] = tuple(
            chain.from_iterable(part.teacher_prompts or () for part in parts)
        )
    for field in dataclasses.fields(Experience):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Tensor):
            # Engines give log-probabilities on all ranks or, where nothing was sampled, by chance.
            is_known = all(value is not None for value in values)
            width = longest - (field.name != "token_ids_NL")
            together[field.name] = (
                torch.cat([widened(v, width) for v in values]) if is_known else None
            )
    return dataclasses.replace(parts[0], **together)


def widened(value: Tensor, width: int) -> Tensor:
    """Rows of tokens or predictions with padding up to a width; a value per row as it is."""
    return value if value.dim() == 1 else pad(value, (0, width - value.shape[1]))


def exchanged(parts: Sequence[T], group: dist.ProcessGroup) -> list[T]:
    """Give each rank its part; what each rank has given to this one, in their order."""
    received = []
    for source in range(dist.get_world_size(group)):
        own: list[Any] = [None]
        given = list(parts) if source == dist.get_rank(group) else None
        dist.scatter_object_list(own, given, group=group, group_src=source)
        received.append(own[0])
    return received
