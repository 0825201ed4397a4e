"""Numbers in English words: `twenty-one`, `three hundred and five`, `two thirds`, `a dozen`."""

from __future__ import annotations

import re
from fractions import Fraction

from luffy_pl.answer.unit_table import NOT_UNITS

_BELOW_TWENTY = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_MULTIPLES_OF_TEN = "twenty thirty forty fifty sixty seventy eighty ninety"
_FROM_HALF = "half third quarter fifth sixth seventh eighth ninth tenth"
_UNITS = {name: value for value, name in enumerate(_BELOW_TWENTY.split())}
_TENS = {name: 10 * value for value, name in enumerate(_MULTIPLES_OF_TEN.split(), start=2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {name: value for value, name in enumerate(_FROM_HALF.split(), start=2)}
_PARTS |= {"fourth": 4, "hundredth": 100, "thousandth": 1000}
_NOT_NOUNS = NOT_UNITS | {"and", "a", "an", "the", "of", "is", "them"} | set(_UNITS) | set(_TENS)
_PLURALS = {("halves" if name == "half" else f"{name}s"): value for name, value in _PARTS.items()}
_KNOWN = {*_UNITS, *_TENS, *_SCALES, *_PARTS, *_PLURALS, "hundred", "dozen", "and", "a"}
_IN_WORDS = re.compile(r"\\text\{([A-Za-z][A-Za-z ,-]+)\}|([A-Za-z][A-Za-z -]{2,})")
_BETWEEN = re.compile(r",|\band\b|\bor\b")


def with_digits(text: str) -> str:
    r"""`3\text{apples}` for `\text{three apples}`, `1, 2` for `\text{one and two}`.

    Any other text is returned as it is.
    """
    match = _IN_WORDS.fullmatch(text)
    if match is None:
        return text
    content = match[1] or match[2]
    whole = read_number_words(content)
    if whole is not None:
        value, rest = whole
        if not rest:
            return _latex(value)
        if not set(rest.lower().split()) & _NOT_NOUNS:
            return rf"{_latex(value)}\text{{{rest}}}"
    pieces = [read_number_words(piece) for piece in _BETWEEN.split(content)]
    numbers = [piece[0] for piece in pieces if piece is not None and not piece[1]]
    if 1 < len(numbers) == len(pieces):
        return ", ".join(map(_latex, numbers))
    return text


def _latex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    above, below = abs(value.numerator), value.denominator
    return f"{sign}{above}" if below == 1 else rf"{sign}\frac{{{above}}}{{{below}}}"


def read_number_words(text: str) -> tuple[Fraction, str] | None:
    """The number that the words of `text` begin with, and the words behind it.

    None if `text` does not begin with a number. An ordinal (`third`, `twenty-fifth`) is none.
    """
    words = [word for token in text.split() for word in _parts_of(token)]
    start = 1 if words and words[0].lower() in {"minus", "negative"} else 0
    reader = _Reader([word.lower() for word in words[start:]])
    value = reader.number()
    if value is None:
        return None
    return (-value if start else value), " ".join(words[start + reader.place :])


def _parts_of(token: str) -> list[str]:
    """`twenty-one` is two words of a number, `seven-sided` is no number."""
    parts = token.split("-")
    return parts if all(part.lower() in _KNOWN for part in parts) else [token]


class _Reader:
    """Reads words from the left; `place` is the first one that is not read."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.place = 0

    def peek(self, ahead: int = 0) -> str:
        place = self.place + ahead
        return self.words[place] if place < len(self.words) else ""

    def number(self) -> Fraction | None:
        """A whole number, a fraction, or a whole number and a fraction."""
        part = self.fraction()
        if part is not None:
            return part
        whole = self.whole()
        if whole is None:
            return None
        before, self.place = self.place, self.place + (self.peek() == "and")
        part = self.fraction() if self.place > before else None
        if part is None:
            self.place = before
            return Fraction(whole)
        return whole + part

    def fraction(self) -> Fraction | None:
        """`half`, `a half`, `one third`, `two thirds`; `two third` and `third` are none."""
        if self.peek() == "half" and self.peek(1) != "of":
            self.place += 1
            return Fraction(1, 2)
        before = self.place
        above = self.whole()
        if above is None and self.peek() in {"a", "an"}:
            above, self.place = 1, self.place + 1
        below = (_PARTS if above == 1 else _PLURALS).get(self.peek())
        if above is None or below is None:
            self.place = before
            return None
        self.place += 1
        return Fraction(above, below)

    def whole(self) -> int | None:
        """A cardinal number; each scale is smaller than the one before it."""
        total, last, found = 0, 10**15, False
        while True:
            before = self.place
            self.place += found and self.peek() == "and"
            group = self.group()
            scale = _SCALES.get(self.peek(), 1)
            if group is None or scale >= last:
                self.place = before
                return total if found else None
            self.place += scale > 1
            total, last, found = total + group * scale, scale, True
            if scale == 1:
                return total

    def group(self) -> int | None:
        """A number below 1,000, or so many dozen."""
        is_article = self.peek() == "a" and self.peek(1) in {"hundred", "dozen", *_SCALES}
        value = self.below_hundred()
        if is_article:
            self.place += 1
            value = 1
        if value is None:
            return None
        if self.peek() in {"dozen", "hundred"}:
            value *= 12 if self.peek() == "dozen" else 100
            self.place += 1
            before, self.place = self.place, self.place + (self.peek() == "and")
            rest = self.below_hundred() if value % 100 == 0 else None
            if rest is None:
                self.place = before
            value += rest or 0
        return value

    def below_hundred(self) -> int | None:
        word = self.peek()
        if word in _TENS:
            self.place += 1
            unit = _UNITS.get(self.peek(), 0)
            if 0 < unit < 10:
                self.place += 1
                return _TENS[word] + unit
            return _TENS[word]
        if word in _UNITS:
            self.place += 1
            return _UNITS[word]
        return None
