"""Rows of an optimizer step, cut into what one forward pass takes.

Shapes: N rows of this rank, n rows of a micro-batch, T predictions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy_pl.data.collate import micro_batch_rows
from luffy_pl.records import Experience


@dataclass(frozen=True)
class MicroBatch:
    """Rows of a record.

    index_n: where they are in it; none for a micro-batch that nothing is learned from.
    num_tokens: length of each row, on the host.
    """

    index_n: Tensor
    rows: Experience
    num_tokens: tuple[int, ...]


def micro_batches(
    experience: Experience, rows: list[int], *, token_budget: int
) -> list[MicroBatch]:
    """Those of `rows` that have something to learn, at most `token_budget` tokens together."""
    host, device = experience.on_host, experience.token_ids_NL.device
    lengths = host.num_tokens_N.tolist()
    is_trained = host.response_mask_NT.any(dim=1).tolist()
    rows = [row for row in rows if is_trained[row]]
    cut = micro_batch_rows([lengths[row] for row in rows], token_budget=token_budget)
    micros = []
    for batch in cut:
        chosen = [rows[i] for i in batch]
        index_n = torch.tensor(chosen)
        num_tokens = tuple(lengths[row] for row in chosen)
        index_on_device_n = index_n.to(device, non_blocking=True)
        micros.append(MicroBatch(index_on_device_n, experience.rows(index_n), num_tokens))
    return micros


def silent(experience: Experience) -> MicroBatch:
    """A micro-batch of one row with nothing to learn from, and no row to write back to."""
    shortest = experience.on_host.num_tokens_N.argmin()[None]
    one = unlearned(experience.rows(shortest))
    nowhere = shortest[:0].to(one.token_ids_NL.device)
    return MicroBatch(nowhere, one, (one.token_ids_NL.shape[1],))


def unlearned(record: Experience) -> Experience:
    """The record without a token to learn from."""
    nothing_nt = torch.zeros_like(record.response_mask_NT)
    host = None if record.host is None else unlearned(record.host)
    return dataclasses.replace(
        record, response_mask_NT=nothing_nt, off_policy_mask_NT=nothing_nt, host=host
    )
