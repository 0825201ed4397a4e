"""Unions of intervals with rational or infinite ends, compared without sympy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from luffy_pl.answer.leaves import INFINITIES, rational_of
from luffy_pl.answer.structure import Answer


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; an infinite end is never closed."""

    low: Fraction | float
    high: Fraction | float
    has_low: bool
    has_high: bool


def are_same_union(answers: Sequence[Answer], golds: Sequence[Answer]) -> bool | None:
    """Whether both unions hold the same numbers; None: an end is no number, or none is inside."""
    sides = [[read_interval(piece) for piece in pieces] for pieces in (answers, golds)]
    mine, theirs = ([i for i in side if i is not None] for side in sides)
    if len(mine) != len(answers) or len(theirs) != len(golds):
        return None
    return merged(mine) == merged(theirs)


def read_interval(piece: Answer) -> Interval | None:
    """A span of two ends, None for any other answer and for an empty interval."""
    if piece.kind != "span" or len(piece.parts) != 2 or piece.name or len(piece.ends) != 2:
        return None
    low, high = (_end(part) for part in piece.parts)
    if low is None or high is None:
        return None
    has_low = piece.ends[0] == "[" and low != -math.inf
    has_high = piece.ends[1] == "]" and high != math.inf
    is_point = low == high and has_low and has_high
    return Interval(low, high, has_low, has_high) if low < high or is_point else None


def merged(intervals: Sequence[Interval]) -> list[Interval]:
    """The same numbers in as few intervals as possible, from the lowest to the highest."""
    done: list[Interval] = []
    for new in sorted(intervals, key=lambda i: (i.low, not i.has_low)):
        last = done[-1] if done else None
        if last is None or not _touch(last, new):
            done.append(new)
        else:
            high, has_high = max((last.high, last.has_high), (new.high, new.has_high))
            done[-1] = Interval(last.low, high, last.has_low, has_high)
    return done


def _touch(last: Interval, new: Interval) -> bool:
    """Whether no number lies between them; `new` does not begin before `last`."""
    return new.low < last.high or (new.low == last.high and (last.has_high or new.has_low))


def _end(part: Answer) -> Fraction | float | None:
    if part.kind != "value" or part.name:
        return None
    if part.source in INFINITIES:
        return math.inf * INFINITIES[part.source]
    value = rational_of(part.source)
    return value if isinstance(value, Fraction) else None
