"""Which rows of a packed sequence have their attention in one call, padded to the longest of them.

A call costs as much as the arithmetic of many short rows. Padding stands behind a row, where causal
attention does not look: a row computes what it computes alone.
Shapes: N rows, K packed tokens; n rows of a block, S tokens of its longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.attention.packing import Packed
from luffy_pl.process.staging import on_device

# A row joins longer ones if the square of the longest length is larger than that of its own by no
# more: so many products of a query and a key cost as much as a call. A GPU multiplies faster than
# it is called.
MOST_PADDING = {"cpu": 2**11}
MOST_PADDING_GPU = 2**17


@dataclass(frozen=True)
class RowBlocks:
    """The calls of one attention layer.

    places: of each block, the place in K of every token, [n, S]; a slice for a row alone that
        shares nothing.
    cell_K: where each packed token lies in the cells of all blocks, one block after the other; None
        where that is its place in K.
    """

    places: tuple[Tensor | slice, ...]
    cell_K: Tensor | None


def blocks_of(packed: Packed) -> RowBlocks:
    """The blocks of a packed sequence, on its device."""
    device = packed.place_M.device
    own, shared = packed.segment_lengths, packed.num_shared
    lengths = [a + b for a, b in zip(own, shared, strict=True)]
    most = MOST_PADDING.get(device.type, MOST_PADDING_GPU)
    together = rows_together(lengths, most)
    if all(len(rows) == 1 for rows in together) and not any(shared):
        return RowBlocks(tuple(slices(own)), None)
    start_N, lead_N = starts(packed)
    cell_K = torch.empty(sum(own), dtype=torch.long)
    places: list[Tensor | slice] = []
    num_cells = 0
    for rows in together:
        place_nS, is_own_nS = block(rows, lengths, shared, start_N, lead_N)
        cell_nS = num_cells + torch.arange(place_nS.numel()).view(place_nS.shape)
        cell_K[place_nS[is_own_nS]] = cell_nS[is_own_nS]
        num_cells += place_nS.numel()
        is_slice = len(rows) == 1 and not shared[rows[0]]
        places.append(slices(own)[rows[0]] if is_slice else on_device(place_nS, device))
    return RowBlocks(tuple(places), on_device(cell_K, device))


def rows_together(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Rows of each block, longest first; rows without tokens are in none."""
    blocks: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if blocks and lengths[blocks[-1][0]] ** 2 - lengths[row] ** 2 <= most:
            blocks[-1].append(row)
        elif lengths[row]:
            blocks.append([row])
    return blocks


def slices(own: Sequence[int]) -> list[slice]:
    """Where the tokens of each row lie in K."""
    ends = torch.tensor(own).cumsum(0).tolist()
    return [slice(end - length, end) for end, length in zip(ends, own, strict=True)]


def starts(packed: Packed) -> tuple[Tensor, Tensor]:
    """Place in K of each row's first own token, and of the first token that it shares, [N]."""
    own_N, shared_N = torch.tensor(packed.segment_lengths), torch.tensor(packed.num_shared)
    start_N = own_N.cumsum(0) - own_N
    row_N = torch.arange(len(own_N)).masked_fill(shared_N > 0, 0)
    return start_N, start_N[row_N.cummax(0).values]


def block(
    rows: Sequence[int],
    lengths: Sequence[int],
    shared: Sequence[int],
    start_N: Tensor,
    lead_N: Tensor,
) -> tuple[Tensor, Tensor]:
    """Place in K of each token of a block, and whether it is the row's own, both [n, S].

    Padding repeats the first token of its row: that of another row might be no number, which zero
    does not multiply away.
    """
    position_S = torch.arange(lengths[rows[0]])
    length_n1, shared_n1 = (
        torch.tensor([of[row] for row in rows])[:, None] for of in (lengths, shared)
    )
    start_n1, lead_n1 = start_N[list(rows), None], lead_N[list(rows), None]
    is_shared_nS, is_there_nS = position_S < shared_n1, position_S < length_n1
    place_nS = torch.where(is_shared_nS, lead_n1, start_n1 - shared_n1) + position_S
    first_n1 = torch.where(shared_n1 > 0, lead_n1, start_n1)
    return torch.where(is_there_nS, place_nS, first_n1), is_there_nS & ~is_shared_nS
