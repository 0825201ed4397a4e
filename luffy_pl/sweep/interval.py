"""A mean over few seeds with its t interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class SeedMean:
    """Mean over seeds with its 95% interval.

    The ends are None for a single seed, and where all seeds have one value: they say nothing of
    how far another seed would be.
    """

    value: float
    low: float | None
    high: float | None
    num_seeds: int


def over_seeds(values: Sequence[float]) -> SeedMean:
    """Mean +- t * s / sqrt(n), t of n - 1 degrees of freedom, s with the divisor n - 1.

    It says how sure the mean is over other seeds, on the same problems; the ends may leave [0, 1].
    """
    n = len(values)
    mean = sum(values) / n
    if max(values) == min(values):
        return SeedMean(values[0], None, None, n)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    return SeedMean(mean, mean - half, mean + half, n)


def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """The t that |T| stays below with probability `level`, by bisection."""
    low, high = 0.0, 1.0
    while inside(high, degrees) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def inside(t: float, degrees: int) -> float:
    """P(|T| <= t) in closed form, Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, total = math.cos(angle), 0.0
    # Odd: cos + 2/3 cos^3 + 2*4/(3*5) cos^5 ...; even: 1 + 1/2 cos^2 + 1*3/(2*4) cos^4 ...
    term, first = (cosine, 1) if degrees % 2 else (1.0, 0)
    for power in range(first, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    if degrees % 2:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
