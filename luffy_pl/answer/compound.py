r"""Quantities said in two or three units: `2\text{ hours }30\text{ minutes}` is 2.5 hours."""

from __future__ import annotations

import re
from fractions import Fraction

from luffy_pl.answer.unit_table import SYMBOL_OF

_CONTAINED = {
    "h": ("min", 60), "min": ("s", 60), "d": ("h", 24), "w": ("d", 7), "y": ("mo", 12),
    "ft": ("in", 12), "yd": ("ft", 3), "lb": ("oz", 16), "pound": ("oz", 16), "m": ("cm", 100),
    "km": ("m", 1000), "kg": ("g", 1000), "$": ("c", 100),
}  # fmt: skip
"""The smaller unit that people say behind each unit, and how many make one of the larger."""
_PART = re.compile(
    r"(?P<value>\d+(?:\.\d+)?) ?"
    r"(?:\\text\{ ?(?P<words>[^\W\d_]+)(?:,? and|,)? ?\}|(?P<bare>[a-z]+))"
    r"(?:,? and|,)? ?(?:\\text\{ ?and ?\} ?)?"
)
_FIRST = re.compile(r"\d+(?:\.\d+)? ?(?:\\text\{ ?)?[^\W\d_]+[^\d]*\d")


def in_first_unit(text: str) -> str:
    """`text` in its largest unit where it counts in several; any other text as it is."""
    if not _FIRST.match(text):
        return text
    position, units, total, size = 0, [""], Fraction(0), Fraction(1)
    while position < len(text):
        part = _PART.match(text, position)
        symbol = _symbol(part["words"] or part["bare"]) if part else ""
        smaller, number = _CONTAINED.get(units[-1], ("", 1))
        if part is None or not symbol or (units[-1] and symbol != smaller):
            return text
        size = size / number if units[-1] else size
        total += Fraction(part["value"]) * size
        units.append(symbol)
        position = part.end()
    if len(units) < 3:
        return text
    return rf"\frac{{{total.numerator}}}{{{total.denominator}}}\text{{ {units[1]}}}"


def _symbol(word: str) -> str:
    return SYMBOL_OF.get(word) or SYMBOL_OF.get(word.lower(), "")
