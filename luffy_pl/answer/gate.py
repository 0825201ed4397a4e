r"""What never reaches sympy: answers built to be expensive.

Each rule names a feature that makes evaluation explode. A gold with the same feature lifts
the rule, because then the question asks for it.
"""

from __future__ import annotations

import re

from luffy_pl.answer.spelling import spell

MAX_DEPTH = 24
"""Nested brackets; 200 hang the parser."""
MAX_OPERATOR_CHARACTERS = 40
"""Length of an answer with an integral, a sum, a product or a limit in it."""

_FEATURES: dict[str, re.Pattern[str]] = {
    "digits": re.compile(r"\d{400}"),
    # Of numbers only: e^{x^2} is cheap.
    "tower": re.compile(
        r"\^ ?(?:\{[^{}A-Za-z]*\^|\([^()A-Za-z]*\^|\d+ ?\^)|\^ ?\{[^{}A-Za-z]*\{[^{}A-Za-z]*\^"
    ),
    # Four powers of single letters or digits on top of each other.
    "tall": re.compile(r"(?:\^ ?\{? ?\w ?){3}\^"),
    # Also a power of 3 digits that is raised again.
    "exponent": re.compile(
        r"\^ ?[{(]? ?[-+]? ?\d{5}|\^ ?[{(][^{}]*\d{5}|\^ ?\{? ?\d{3,} ?\}? ?\) ?\^"
    ),
    "factorial": re.compile(r"\d{4} ?!|! ?[)}]* ?!"),
    "binomial": re.compile(r"\\binom ?\{[^{}]*(?:\d{4}|\^)|\\binom ?\{[^{}]*\} ?\{[^{}]*\d{4}"),
    "gamma": re.compile(r"\\Gamma[^A-Za-z]{0,8}\d{4}|\\Gamma[^A-Za-z]*\^"),
    "bounds": re.compile(r"\\(?:sum|prod)[^A-Za-z].{0,40}\d{4}"),
}
_OPERATOR = re.compile(r"\\(?:i{0,2}int|oint|sum|prod|lim)(?![A-Za-z])")


def refusal(answer: str, gold: str) -> str | None:
    """Why `answer` must not be evaluated, None if it may."""
    plain_answer, plain_gold = spell(answer), spell(gold)
    for name, pattern in _FEATURES.items():
        if pattern.search(plain_answer) and not pattern.search(plain_gold):
            return name
    if _depth(plain_answer) > max(MAX_DEPTH, _depth(plain_gold)):
        return "depth"
    is_long = len(plain_answer) > MAX_OPERATOR_CHARACTERS
    if is_long and _OPERATOR.search(plain_answer) and not _OPERATOR.search(plain_gold):
        return "operator"
    return None


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth = max(depth - 1, 0)
    return deepest
