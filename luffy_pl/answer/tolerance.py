"""What counts as the same value where mathematics alone does not say: units and roundings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Units = Literal["match", "ignore"]

_DECIMAL = re.compile(r"[-+]? ?\d*\.\d+")


@dataclass(frozen=True)
class Tolerance:
    """How generous a comparison is; the fields are those of RewardConfig."""

    units: Units = "match"
    rounding: int | None = None

    def allows_rounding(self, gold: str) -> bool:
        """Whether normalized `gold` is a decimal, which alone may stand for a rounded value."""
        return self.rounding is not None and _DECIMAL.fullmatch(gold) is not None

    def is_rounded(self, answer: Fraction, gold: Fraction) -> bool:
        """Whether `answer` lies within half a unit of the gold's last digit that counts."""
        if self.rounding is None or gold == 0:
            return answer == gold
        half = Fraction(1, 2) * Fraction(10) ** (1 - self.rounding)
        return abs(answer - gold) <= half * Fraction(10) ** _exponent(abs(gold))


@dataclass(frozen=True)
class ValueComparison:
    """Compares two normalized values, the gold last; None is "needs sympy"."""

    compare: Callable[[str, str], bool | None]
    tolerance: Tolerance = Tolerance()

    def __call__(self, answer: str, gold: str) -> bool | None:
        """Compare by this tolerance."""
        return self.compare(answer, gold)


def _exponent(value: Fraction) -> int:
    """Place of the leading digit: 0 for 3.14, -2 for 0.05."""
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    return exponent if value >= Fraction(10) ** exponent else exponent - 1
