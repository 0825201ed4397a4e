"""Which rank trains which rows: each optimizer step is cut into micro-batches over all ranks.

A rank collects the answers to its own prompts, and answers differ in length. Sharded weights are
gathered in every forward pass, so all ranks make equally many, and the others wait for the one with
most tokens. Here each rank gets as many micro-batches as any other, and about as many tokens. A
loss is a sum over the rows of all ranks, so it does not depend on who computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from luffy_pl.training.micro_batches import micro_batch_rows


@dataclass(frozen=True)
class RowSize:
    """What every rank knows of a row.

    owner: the rank that collected it. place: its number in the record of that rank.
    step: the optimizer step that trains it. group: the number of its group in the same record.
    num_prompt: tokens that it shares with the rows of its group; 0 where none are shared.
    """

    owner: int
    place: int
    step: int
    group: int
    num_tokens: int
    num_prompt: int


Batch = list[RowSize]


def deal(rows: Sequence[RowSize], *, num_ranks: int, token_budget: int) -> list[list[Batch]]:
    """The micro-batches of one optimizer step for each rank; the same on every rank.

    All ranks get equally many, unless there are too few rows. The largest are dealt first, to the
    ranks by turns and back again: micro-batches that are computed at the same time have similar
    sizes, and so have the sums of ranks.

    Args:
        rows: of all ranks, each with a token to learn from.
        token_budget: most tokens of a micro-batch; a longer row stands alone.
    """
    batches = even_batches(rows, num_ranks=num_ranks, token_budget=token_budget)
    batches.sort(key=num_computed, reverse=True)
    hands: list[list[Batch]] = [[] for _ in range(num_ranks)]
    for number, batch in enumerate(batches):
        turn, seat = divmod(number, num_ranks)
        hands[seat if turn % 2 == 0 else num_ranks - 1 - seat].append(batch)
    return hands


def even_batches(rows: Sequence[RowSize], *, num_ranks: int, token_budget: int) -> list[Batch]:
    """As few micro-batches as the budget allows, rounded up to a multiple of the ranks.

    The smallest budget that makes no more than these, to a percent or two, makes them even.
    """
    if not rows:
        return []
    groups = {key: number for number, key in enumerate(dict.fromkeys(map(group_key, rows)))}

    def cut(budget: int) -> list[Batch]:
        found = micro_batch_rows(
            [row.num_tokens for row in rows],
            token_budget=budget,
            group=[groups[group_key(row)] for row in rows],
            num_prompt=[row.num_prompt for row in rows],
        )
        return [[rows[index] for index in batch] for batch in found]

    batches = cut(token_budget)
    wanted = num_ranks * ceil(len(batches) / num_ranks)
    low, high = sum(map(num_computed, batches)) // wanted, token_budget
    while high - low > max(1, token_budget // 64):
        middle = (low + high) // 2
        if len(tried := cut(middle)) <= wanted:
            batches, high = tried, middle
        else:
            low = middle
    while len(batches) < wanted and any(len(batch) > 1 for batch in batches):
        largest = max((b for b in batches if len(b) > 1), key=num_computed)
        batches.remove(largest)
        batches += halves(largest)
    return batches


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Cut a micro-batch where its two parts have the most similar sizes."""
    cuts = range(1, len(batch))
    place = min(cuts, key=lambda cut: max(num_computed(batch[:cut]), num_computed(batch[cut:])))
    return batch[:place], batch[place:]


def group_key(row: RowSize) -> tuple[int, int]:
    """The group of a row among those of all ranks."""
    return row.owner, row.group


def num_computed(batch: Batch) -> int:
    """Tokens of a micro-batch, a prompt counted once for neighbours that share it."""
    before: tuple[int, int] | None = None
    total = 0
    for row in batch:
        total += row.num_tokens - row.num_prompt * (group_key(row) == before)
        before = group_key(row)
    return total
