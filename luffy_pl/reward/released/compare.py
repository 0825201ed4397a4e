r"""How the released graders compare; it runs in a worker process only (pool.py).

Written after the description of the graders, not after their code. Where they hand a model's
text to sympy's own parser, which evaluates Python, math_verify reads it here: LaTeX only. Both
sides may so come out differently on text that is no LaTeX, such as `2*sqrt(3)`, which is
turned into LaTeX first (normalize.py).
"""

from __future__ import annotations

import re
from typing import Any

from luffy_pl.answer.normalize import normalize
from luffy_pl.reward.released.text import Released

OAT_TIMEOUT_S = 1
"""Seconds for a parse or comparison by oat's last step."""
REPEATED_SHARE, REPEATED_FROM = 0.2, 128
"""A text longer than this many characters is rejected if more of its substrings repeat."""
MAX_UNKNOWNS = 2
"""Letters of an expression that are still simplified."""

_SCHOOL_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\n|\\!|\\left(?![a-z])|\\right(?![a-z])|\^\{?\\circ\}?|\\\$|\\?%", ""),
        (r"\\\\", r"\\"),
        (r"\\[td]frac", r"\\frac"),
        (r"\\text\{ .*\Z", ""),  # a unit and whatever follows it
        (r"(^|[ {])\.(?=\d)", r"\g<1>0."),
        (r"\A[^=]{1,2}=(?=[^=]+\Z)", ""),
        (r"\\sqrt(?=[^{\[\s])(.)", r"\\sqrt{\1}"),
        (r"\s", ""),
        (r"\\frac([^{}\\])([^{}\\])", r"\\frac{\1}{\2}"),
        (r"\\frac([^{}\\])(?=\{)", r"\\frac{\1}"),
        (r"\A0\.5\Z", r"\\frac{1}{2}"),
        (r"\A(-?\d+)/(-?\d+)\Z", r"\\frac{\1}{\2}"),
    )
)
_UNIT_WORDS = (
    "degree|cm|centimeter|meter|mile|second|minute|hour|day|week|month|year|foot|feet|inch|yard"
)
_VALUE_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\text\{([^{}]*)\}", r"\1"),
        (r"\\?[%$]|\^\{?\\circ\}?|°", ""),
        (r"\s+(?:or|and)\s+", " , "),
        (rf"(?<![A-Za-z])(?:{_UNIT_WORDS})(?:es|s)?(?:\s*\^\s*\{{?\d+\}}?)?(?![A-Za-z])", ""),
        (r"\s*million(?![a-z])", r"\\cdot 10^{6}"),
        (r"\s*billion(?![a-z])", r"\\cdot 10^{9}"),
        (r"\s*trillion(?![a-z])", r"\\cdot 10^{12}"),
    )
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"(-?)(?:\\frac\{(-?\d+)\}\{(\d+)\}|(\d+)/(\d+))")
_INTEGER = re.compile(r"-?\d+(?:\.0*)?")
_BIG_POWER = re.compile(r"\^\{?\d+\}?\^|\^\{?\d\d")


def compare_released(answer: str, gold: str, *, grader: Released) -> bool:
    """Whether `grader` takes `answer` (what `read_response` found) for `gold`.

    Raises:
        TimeoutError: math_verify gave up.
    """
    from math_verify.errors import TimeoutException

    try:
        if grader in ("luffy_v3", "luffy_v4"):
            return _by_math_verify(answer, gold)
        if are_same_school_answer(answer, gold) or are_same_value(answer, gold):
            return True
        return grader == "oat" and _are_same_latex(answer, gold)
    except TimeoutException:
        raise TimeoutError from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (the released graders take any failure for a wrong answer)
        return False


def are_same_school_answer(answer: str, gold: str) -> bool:
    """Equal as strings once units, spaces and spellings of fractions and roots are gone."""
    return _school_form(answer) == _school_form(gold)


def _school_form(text: str) -> str:
    text = text.strip()
    if wrapped := re.fullmatch(r"\\text\{([^{}]*)\}", text):
        text = wrapped.group(1).strip()
    for pattern, replacement in _SCHOOL_REWRITES:
        text = pattern.sub(replacement, text)
    return text


def are_same_value(answer: str, gold: str) -> bool:
    """Equal element by element; a fraction or integer of the gold asks for its exact form."""
    mine, theirs = _value_form(answer), _value_form(gold)
    if not mine:
        return False
    if _key(mine) == _key(theirs):
        return True
    answers, golds = _elements(mine), _elements(theirs)
    if len(answers) != len(golds):
        return False
    if len(golds) > 1 and (mine[0], mine[-1]) != (theirs[0], theirs[-1]):
        return False
    return all(map(_is_same_element, answers, golds))


def _value_form(text: str) -> str:
    for pattern, replacement in _VALUE_REWRITES:
        text = pattern.sub(replacement, text)
    return normalize(text)


def _key(text: str) -> str:
    return re.sub(r"[\s{}]", "", text).lower()


def _elements(text: str) -> list[str]:
    """What brackets around the whole text list, or the text."""
    text = _THOUSANDS.sub("", text)
    inside = text[1:-1]
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and not set("()[]") & set(inside):
        return [element.strip() for element in inside.split(",")]
    return [text]


def _is_same_element(answer: str, gold: str) -> bool:
    mine, theirs = _fraction(answer), _fraction(gold)
    if mine is not None and theirs is not None:
        return mine == theirs
    if bool(_INTEGER.fullmatch(answer)) != bool(_INTEGER.fullmatch(gold)):
        return False
    if not (_may_simplify(answer) and _may_simplify(gold)):
        return False
    return _have_no_difference(answer, gold)


def _fraction(text: str) -> tuple[str, str] | None:
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    sign, above, below, plain_above, plain_below = match.groups()
    return sign + (above or plain_above), below or plain_below


def _may_simplify(text: str) -> bool:
    letters = set(re.sub(r"\\[A-Za-z]+", "", text)) & set("abcdefghijklmnopqrstuvwxyz")
    return len(letters) <= MAX_UNKNOWNS and not _BIG_POWER.search(text)


def _have_no_difference(answer: str, gold: str) -> bool:
    import sympy
    from math_verify import LatexExtractionConfig, parse

    sides: list[Any] = [
        parse(
            rf"\boxed{{{text}}}",
            extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
            fallback_mode="no_fallback",
        )
        for text in (answer, gold)
    ]
    if not all(sides):
        return False
    mine, theirs = sides[0][0], sides[1][0]
    if isinstance(mine, sympy.Expr) and isinstance(theirs, sympy.Expr):
        return bool(sympy.simplify(mine - theirs) == 0)
    return bool(mine == theirs)


def _by_math_verify(text: str, gold: str) -> bool:
    from math_verify import parse, verify

    return verify(parse(f"${gold}$"), parse(text)) is True


def _are_same_latex(answer: str, gold: str) -> bool:
    if any(is_repetitive(text) for text in (answer, gold)):
        return False
    if _key(_value_form(answer)) == _key(_value_form(gold)):
        return True
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    sides = [
        parse(
            text if "$" in text else f"${text}$",
            extraction_config=[
                LatexExtractionConfig(boxed_match_priority=0),
                ExprExtractionConfig(),
            ],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=OAT_TIMEOUT_S,
        )
        for text in (gold.replace("\n", ""), answer.replace("\n", ""))
    ]
    return verify(sides[0], sides[1], timeout_seconds=OAT_TIMEOUT_S) is True


def is_repetitive(text: str) -> bool:
    """Whether a long text says the same again and again.

    The share of its substrings that repeat an earlier one, from neighbours in sorted order.
    """
    size = len(text)
    if size <= REPEATED_FROM:
        return False
    suffixes = sorted(text[start:] for start in range(size))
    repeated = sum(map(_shared, suffixes, suffixes[1:]))
    return 2 * repeated / (size * (size + 1)) > REPEATED_SHARE


def _shared(first: str, second: str) -> int:
    """Characters that two texts share from their start."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[:middle] == second[:middle] else (low, middle - 1)
    return low
