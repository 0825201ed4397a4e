"""Lengths in tokens, against what a run allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class LengthSummary:
    """Lengths of prompts or traces; `over` counts those above `limit`, if there is one."""

    name: str
    num: int
    mean: float
    p50: int
    p95: int
    longest: int
    limit: int | None
    over: int | None


def summarize_lengths(name: str, values: Sequence[int], limit: int | None) -> LengthSummary | None:
    """None of nothing."""
    if not values:
        return None
    cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else [values[0]] * 19
    return LengthSummary(
        name=name,
        num=len(values),
        mean=round(sum(values) / len(values), 1),
        p50=round(cuts[9]),
        p95=round(cuts[18]),
        longest=max(values),
        limit=limit,
        over=None if limit is None else sum(value > limit for value in values),
    )
