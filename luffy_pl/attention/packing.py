"""Padded rows to what a forward pass reads, and predictions back to their rows.

Rows are packed into one sequence without padding, or stay side by side.
Shapes: n rows, L tokens, T = L - 1 predictions, K packed tokens, M predictions asked for.
A row's last token predicts nothing, so it is not packed: a row of 5 tokens takes 4 places. Nor is
what a row shares with the row before it: a causal model computes the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luffy_pl.process.staging import on_device


@dataclass(frozen=True)
class Predictions:
    """Predictions asked for, in the order of rows and positions, on the device of the rows.

    place_M: place of the token that predicts, among all that the forward pass reads.
    cell_M: where each lies in the flattened [n, T].
    target_M: the token to be predicted there.
    """

    place_M: Tensor
    cell_M: Tensor
    target_M: Tensor


@dataclass(frozen=True)
class Packed(Predictions):
    """Rows one after the other, on the device of the rows.

    token_ids_1K, position_ids_1K: inputs of the model; positions start at 0 in every row.
    segment_lengths: tokens of each row, on the host, so that nobody waits for the device.
    num_shared: tokens at the beginning of each row that lie with the last row that shares none.
    """

    token_ids_1K: Tensor
    position_ids_1K: Tensor
    segment_lengths: tuple[int, ...]
    num_shared: tuple[int, ...]


@dataclass(frozen=True)
class Padded(Predictions):
    """Rows side by side, each with padding behind it, which no causal model sees.

    token_ids_nK: K = the tokens of the longest row, less its last.
    """

    token_ids_nK: Tensor


def pack(
    token_ids_nL: Tensor, mask_nT: Tensor, num_tokens: Sequence[int], num_shared: Sequence[int]
) -> Packed:
    """The first `num_tokens` tokens of each row, less the last, in one sequence.

    Args:
        mask_nT: the predictions asked for, on the host; a mask on a device is waited for.
        num_shared: tokens that each row begins with as the last row that shares none.
    """
    width = token_ids_nL.shape[1]

    def placed(places: Tensor) -> Tensor:
        return on_device(places, token_ids_nL.device)

    shared_n = torch.tensor(num_shared)
    lengths_n = torch.tensor(num_tokens) - 1 - shared_n
    start_n = lengths_n.cumsum(0) - lengths_n - shared_n  # where position 0 is, or would be
    leads_n = torch.arange(len(lengths_n)).masked_fill(shared_n > 0, 0)
    lead_start_n = start_n[leads_n.cummax(0).values]
    row_K = torch.arange(len(lengths_n)).repeat_interleave(lengths_n)
    position_K = torch.arange(len(row_K)) - start_n[row_K]
    ids_C = token_ids_nL.flatten()
    cell_M = mask_nT.cpu().flatten().nonzero()[:, 0]
    row_M = cell_M // (width - 1)
    position_M = cell_M - row_M * (width - 1)
    is_shared_M = position_M < shared_n[row_M]
    place_M = torch.where(is_shared_M, lead_start_n[row_M], start_n[row_M]) + position_M
    return Packed(
        token_ids_1K=ids_C[placed(row_K * width + position_K)][None],
        position_ids_1K=placed(position_K)[None],
        segment_lengths=tuple(lengths_n.tolist()),
        num_shared=tuple(num_shared),
        place_M=placed(place_M),
        cell_M=placed(cell_M),
        target_M=ids_C[placed(row_M * width + position_M + 1)],
    )


def side_by_side(token_ids_nL: Tensor, mask_nT: Tensor, num_tokens: Sequence[int]) -> Padded:
    """The rows as they are, cut behind the longest; see `pack`."""
    width, length = token_ids_nL.shape[1], max(num_tokens) - 1
    cell_M = mask_nT.cpu().flatten().nonzero()[:, 0]
    row_M = cell_M // (width - 1)
    position_M = cell_M - row_M * (width - 1)
    places = (row_M * length + position_M, cell_M, row_M * width + position_M + 1)
    place_M, cell_M, next_M = (on_device(x, token_ids_nL.device) for x in places)
    return Padded(place_M, cell_M, token_ids_nL.flatten()[next_M], token_ids_nL[:, :length])


def read_mask(width: int, num_tokens: Sequence[int]) -> Tensor:
    """The tokens of each row that a forward pass reads, all but the last, [n, T]; on the host."""
    return torch.arange(width) < torch.tensor(num_tokens)[:, None] - 1


def unpack(value_M: Tensor, packed: Predictions, mask_nT: Tensor) -> Tensor:
    """Values of predictions at their places in [n, T], 0 elsewhere."""
    zeros_C = value_M.new_zeros(mask_nT.numel())
    return zeros_C.index_copy(0, packed.cell_M, value_M).view(mask_nT.shape)


def flash_boundaries(packed: Packed) -> dict[str, Any]:
    """The segments in the form of transformers' FlashAttentionKwargs, which share nothing."""
    device = packed.token_ids_1K.device
    ends = torch.tensor((0, *packed.segment_lengths)).cumsum(0)
    boundaries = on_device(ends.int(), device)
    longest = max(packed.segment_lengths)
    return {
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
    }
