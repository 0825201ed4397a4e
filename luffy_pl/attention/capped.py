"""Attention of a row with what PyTorch's has no argument for: a soft cap on scores, and sinks.

For query q and key k of a head with the sink s,

    score(q, k) = scale q.k, or cap tanh(scale q.k / cap)
    weight(q, k) = exp score(q, k) / (exp s + sum over k' of exp score(q, k'))

The cap is that of Gemma 2 (arXiv 2408.00118, section 2), sinks are those of gpt-oss
(arXiv 2508.10925, section 2.3). Scores of some queries are in memory at a time, and the backward
pass computes them again.
Shapes: S tokens of a row, C queries, h heads, k heads of keys with g = h / k queries each, D.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MOST_SCORES = 2**24
"""Scores in memory at a time, of all heads together: 64 MiB in float32."""


def capped_attention(
    query_1hSD: Tensor,
    key_1kSD: Tensor,
    value_1kSD: Tensor,
    *,
    band_SS: Tensor | None,
    scale: float,
    cap: float | None = None,
    sink_h: Tensor | None = None,
    most_scores: int = MOST_SCORES,
) -> Tensor:
    """Returns [1, h, S, D].

    Args:
        band_SS: whether a query sees a key; None: it sees those up to its own place.
        cap, sink_h: None where there is none.
    """
    heads, length = query_1hSD.shape[1:3]
    queries = max(1, most_scores // (heads * length))
    parts = []
    for start in range(0, length, queries):
        stop = min(start + queries, length)
        part = (
            query_1hSD[:, :, start:stop],
            key_1kSD if band_SS is not None else key_1kSD[:, :, :stop],
            value_1kSD if band_SS is not None else value_1kSD[:, :, :stop],
            _causal(start, stop, query_1hSD.device) if band_SS is None else band_SS[start:stop],
        )
        parts.append(
            checkpoint(
                _attend, *part, scale, cap, sink_h, use_reentrant=False, preserve_rng_state=False
            )
        )
    return torch.cat(parts, dim=2)


def _causal(start: int, stop: int, device: torch.device) -> Tensor:
    """Whether queries of these places see the keys before `stop`, [C, stop]."""
    place_S = torch.arange(stop, device=device)
    return place_S[start:, None] >= place_S


def _attend(
    query_1hCD: Tensor,
    key_1kSD: Tensor,
    value_1kSD: Tensor,
    seen_CS: Tensor,
    scale: float,
    cap: float | None,
    sink_h: Tensor | None,
) -> Tensor:
    query_1kgCD = query_1hCD.unflatten(1, (key_1kSD.shape[1], -1))
    score_1kgCS = query_1kgCD @ key_1kSD.transpose(2, 3)[:, :, None] * scale
    if cap is not None:
        score_1kgCS = (score_1kgCS / cap).tanh() * cap
    score_1kgCS = score_1kgCS.masked_fill(~seen_CS, -torch.inf)
    precise = torch.promote_types(score_1kgCS.dtype, torch.float32)
    if sink_h is None:
        weight_1kgCS = score_1kgCS.softmax(-1, dtype=precise)
    else:
        sink_1kgC1 = sink_h.view(1, *query_1kgCD.shape[1:3], 1, 1).expand(
            *score_1kgCS.shape[:-1], 1
        )
        with_sink = torch.cat((score_1kgCS, sink_1kgC1.to(score_1kgCS.dtype)), dim=-1)
        weight_1kgCS = with_sink.softmax(-1, dtype=precise)[..., :-1]
    return (weight_1kgCS.to(value_1kSD.dtype) @ value_1kSD[:, :, None]).flatten(1, 2)
