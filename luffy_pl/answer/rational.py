r"""Exact arithmetic on rational answers: 1/2, 1.5\cdot 10^{3}, \frac{1}{2^{99}}, 0.\overline{3}.

A grammar of sums, products and powers over `fractions.Fraction`, bounded in size, so that
no input is expensive: floating point would take 0.333333 for 1/3 and 1e-7 for 2e-7.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MAX_DIGITS = 4000
"""Longest numerator or denominator, in decimal digits; longer ones are left to sympy."""
MAX_DEPTH = 24
"""Deepest nesting of brackets."""
MAX_COUNT = 2000
"""Largest factorial and binomial coefficient."""
_MAX_BITS = int(MAX_DIGITS * math.log2(10))

_TOKEN = re.compile(
    r"\s*(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4}(?!\d))?(?:\\overline\{\d+\})?)"
    r"|\s*(?P<sign>\\frac|\\binom|\\sqrt(?!\s*\[)|\\cdot|\\times|\\div|[-+*/:^(){}!])"
)
_OPENS = {"(": ")", "{": "}"}
_FACTORS = {"\\frac", "\\binom", "\\sqrt", *_OPENS}


class _NotRational(Exception):
    """The text is no rational number of bounded size."""


def read_rational(text: str) -> Fraction | None:
    """The value of `text`, None if it is not a rational number in this grammar.

    Raises:
        ZeroDivisionError: it is one, but divides by zero.
    """
    tokens = _tokenize(text)
    # A ratio of three is no number.
    if not tokens or tokens.count("^") > MAX_DEPTH or tokens.count(":") > 1:
        return None
    try:
        parser = _Parser(tokens)
        value = parser.sum()
    except _NotRational:
        return None
    return value if parser.at_end() else None


def _tokenize(text: str) -> list[str] | None:
    tokens: list[str] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent; one method per level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def at_end(self) -> bool:
        return self.position == len(self.tokens)

    def peek(self) -> str:
        return "" if self.at_end() else self.tokens[self.position]

    def take(self, *wanted: str) -> str:
        """The next token if it is one of `wanted`, else nothing."""
        token = self.peek()
        if token not in wanted:
            return ""
        self.position += 1
        return token

    def sum(self) -> Fraction:
        value = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = _bounded(value + term if sign == "+" else value - term)
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while True:
            if self.take("*", "\\cdot", "\\times"):
                value = _bounded(value * self.signed())
            elif self.take("/", ":", "\\div"):
                value = _bounded(value / self.signed())
            elif self.peek() in _FACTORS:
                value = _bounded(value * self.power())
            else:
                return value

    def signed(self) -> Fraction:
        sign = self.take("+", "-")
        if not sign:
            return self.power()
        value = self.power()
        return -value if sign == "-" else value

    def power(self) -> Fraction:
        base = self.atom()
        while self.take("!"):
            base = _factorial(base)
        return _power(base, self.signed()) if self.take("^") else base

    def atom(self) -> Fraction:
        token = self.take(self.peek())
        if token in _OPENS:
            return self.enclosed(_OPENS[token])
        if token == "\\sqrt":
            return _root(self.group())
        if token in {"\\frac", "\\binom"}:
            first, second = self.group(), self.group()
            return _bounded(first / second) if token == "\\frac" else _binomial(first, second)
        if token[:1].isdigit() or token[:1] == ".":
            return _number(token)
        raise _NotRational

    def group(self) -> Fraction:
        if not self.take("{"):
            raise _NotRational
        return self.enclosed("}")

    def enclosed(self, closing: str) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _NotRational
        value = self.sum()
        if not self.take(closing):
            raise _NotRational
        self.depth -= 1
        return value


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _NotRational
    return value


def _number(token: str) -> Fraction:
    if len(token) > MAX_DIGITS:
        raise _NotRational
    digits, _, repeating = token.partition("\\overline{")
    exponent = int(re.split("[eE]", digits)[1]) if "e" in digits.lower() else 0
    if abs(exponent) > MAX_DIGITS or (repeating and ("." not in digits or exponent)):
        raise _NotRational
    value = Fraction(digits)
    if repeating:
        # 0.1\overline{6}: the repeating block over as many nines, behind the fixed digits.
        block = repeating.rstrip("}")
        fixed = len(digits.partition(".")[2])
        value += Fraction(int(block), (10 ** len(block) - 1) * 10**fixed)
    return _bounded(value)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise _NotRational
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * max(size - 1, 1) > _MAX_BITS:
        raise _NotRational
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    return _bounded(base ** int(exponent))


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MAX_COUNT:
        raise _NotRational
    return _bounded(Fraction(math.factorial(int(value))))


def _binomial(above: Fraction, below: Fraction) -> Fraction:
    if above.denominator != 1 or below.denominator != 1 or not 0 <= below <= above <= MAX_COUNT:
        raise _NotRational
    return _bounded(Fraction(math.comb(int(above), int(below))))


def _root(value: Fraction) -> Fraction:
    """Square root of a square; other roots are irrational and none of our business."""
    if value < 0:
        raise _NotRational
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root != value:
        raise _NotRational
    return root
