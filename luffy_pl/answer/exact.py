"""Whether a number is zero, and whether it is real.

Rational numbers are decided by arithmetic. Any other number is evaluated to as many bits as its
size asks for. An algebraic number (roots of rationals) that is smaller than that is zero: the bits
are a separation bound, the number of roots times the bits of all integers in it (Burnikel et al.,
"A strong and easily computable separation bound", 2001, in a coarser form). For a number with a
logarithm, a sine, e or pi no such bound is known; at least `MIN_BITS` bits agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy
from sympy.core.evalf import evalf, fastlog

MIN_BITS = 512
MAX_BITS = 1 << 15
"""Beyond 9,800 digits nothing is evaluated."""
MAX_DEGREE = 64
_KNOWN_BITS = 10
"""Bits of a result that have to be right for it to be no rounding error."""
_ZERO_BITS = -64
"""The logarithm of what is left of a zero is below this."""


@dataclass(frozen=True)
class Number:
    """What is known of a finite number."""

    is_zero: bool
    is_real: bool


def measure(number: sympy.Expr) -> Number | None:
    """What is known of `number`; None if it is not finite or nobody can say."""
    if number.is_Rational:
        return Number(bool(number == 0), True)
    if not number.is_number or number.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
        return None
    real, imaginary, real_bits, imaginary_bits = evalf(number, 53, {"maxprec": bits_of(number)})
    parts = [_is_zero(real, real_bits), _is_zero(imaginary, imaginary_bits)]
    if None in parts:
        # One part that is surely there is enough to know that the number is not zero.
        return None if False not in parts else Number(False, False)
    return Number(all(parts), bool(parts[1]))


def bits_of(number: sympy.Expr) -> int:
    """Bits to which `number` has to be evaluated before it may be called zero."""
    size, degree = _size(number), 1
    for power in number.atoms(sympy.Pow):
        if power.exp.is_Rational:
            degree *= int(power.exp.q)
    return int(min(MIN_BITS + min(degree, MAX_DEGREE) * size, MAX_BITS))


def _size(number: Any) -> int:
    """Bits of all integers in `number`, those in a power as often as it multiplies them."""
    if number.is_Rational:
        return int(number.p).bit_length() + int(number.q).bit_length()
    size = 2 + sum(_size(part) for part in number.args)
    if number.is_Pow and number.exp.is_Rational:
        return min(int(_size(number.base) * max(abs(number.exp), 1)), MAX_BITS) + 2
    if isinstance(number, sympy.exp) or (number.is_Pow and number.exp.is_number):
        # e^{100} has the size of its value.
        exponent = abs(complex(number.exp.evalf(15)))
        return min(int(2 * exponent) + size, MAX_BITS)
    return min(size, MAX_BITS)


def _is_zero(part: Any, known_bits: int | None) -> bool | None:
    if part is None:
        return True
    if known_bits is not None and known_bits > _KNOWN_BITS:
        return False
    return True if fastlog(part) < _ZERO_BITS else None
