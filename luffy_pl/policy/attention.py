"""Causal attention within each row of a packed sequence, told where rows begin, never guessing.

Registered with transformers as PACKED_SDPA, and without a mask function there, so no mask is built.
The cost is the sum of squared row lengths. Shapes: L packed tokens, D of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from luffy_pl.errors import ModelError
from luffy_pl.policy.packing import Packed

PACKED_SDPA = "luffy_pl_packed_sdpa"


def packed_sdpa(
    module: nn.Module,
    query_1hLD: Tensor,
    key_1kLD: Tensor,
    value_1kLD: Tensor,
    attention_mask: None,
    *,
    packed: Packed,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """PyTorch's attention on every segment alone; returns [1, L, heads, D].

    Args:
        packed: where rows begin, and what they share. One object, because torch.compile would
            compile again for every other length of a tuple.
        sliding_window: tokens that a position sees, itself included; None: all before it.
        others: what transformers passes to every implementation; what would change the
            attention's formula is refused.
    """
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise ModelError(
            "model.policy.attention",
            "sdpa has neither soft caps nor sinks, which this model's attention needs",
            fix="use flash_attention_2, or another model",
        )
    parts = [
        whole_rows(x.split(list(packed.segment_lengths), dim=2), packed.num_shared)
        for x in (query_1hLD, key_1kLD, value_1kLD)
    ]
    outputs = []
    for query, key, value, shared in zip(*parts, packed.num_shared, strict=True):
        band = _band(query.shape[2], sliding_window, query.device)
        output = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=band,
            dropout_p=dropout,
            is_causal=band is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(output.transpose(1, 2)[:, shared:])
    return torch.cat(outputs, dim=1), None


def whole_rows(own_1hSD: Sequence[Tensor], num_shared: Sequence[int]) -> Iterator[Tensor]:
    """Each row with what it shares in front.

    The shared queries are computed again, which costs less than a mask for the others alone.
    """
    for own, shared in zip(own_1hSD, num_shared, strict=True):
        if not shared:
            lead = own
        yield torch.cat((lead[:, :, :shared], own), dim=2) if shared else own


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Who sees whom, [L, L], where a segment is longer than the window; None: plainly causal."""
    if window is None or length <= window:
        return None
    position_L = torch.arange(length, device=device)
    distance_LL = position_L[:, None] - position_L
    return (distance_LL >= 0) & (distance_LL < window)


def register_attention() -> None:
    """Make PACKED_SDPA known to transformers."""
    from transformers import AttentionInterface

    # A loop over rows, which no two micro-batches have alike, is nothing to compile.
    AttentionInterface.register(PACKED_SDPA, torch.compiler.disable(packed_sdpa))
