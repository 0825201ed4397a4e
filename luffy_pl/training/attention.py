"""Causal attention within each row of a packed sequence, told where rows begin, never guessing.

Registered with transformers as PACKED_SDPA, and without a mask function there, so no mask is built.
The cost is the sum of squared row lengths. Shapes: L packed tokens, D of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from luffy_pl.errors import ModelError

PACKED_SDPA = "luffy_pl_packed_sdpa"


def packed_sdpa(
    module: nn.Module,
    query_1hLD: Tensor,
    key_1kLD: Tensor,
    value_1kLD: Tensor,
    attention_mask: None,
    *,
    segment_lengths: Sequence[int],
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """PyTorch's attention on every segment alone; returns [1, L, heads, D].

    Args:
        segment_lengths: of the packed rows, in tokens; they add up to L.
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
    parts = [x.split(list(segment_lengths), dim=2) for x in (query_1hLD, key_1kLD, value_1kLD)]
    outputs = []
    for query, key, value in zip(*parts, strict=True):
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
        outputs.append(output.transpose(1, 2))
    return torch.cat(outputs, dim=1), None


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Who sees whom, [L, L], where a segment is longer than the window; None: plainly causal."""
    if window is None or length <= window:
        return None
    position_L = torch.arange(length, device=device)
    distance_LL = position_L[:, None] - position_L
    return (distance_LL >= 0) & (distance_LL < window)


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
