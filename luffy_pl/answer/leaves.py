r"""Single values compared without sympy: rationals, times, choice letters, words.

Values are normalized text without a unit. Everything here is bounded in time and runs in the
training process. Comparisons have three values; None is "needs sympy".
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

from luffy_pl.answer.choice import read_claim, read_option
from luffy_pl.answer.clock import are_same_date, is_date, read_clock
from luffy_pl.answer.rational import read_rational
from luffy_pl.answer.units import split_unit

MAX_TEXT_WORDS = 3
"""A gold of more words is prose, which no string comparison can grade."""

_SMALL_WORDS = frozenset(["yes", "no", "dne", "odd"])
_TEXT = re.compile(r"[^\W\d_]+(?:[ '\-][^\W\d_]+)*")
_RATIO = re.compile(r"[^:]+(?::[^:]+){2,}")
DOTS = "\\ldots"
INFINITIES = {"\\infty": 1, "+\\infty": 1, "-\\infty": -1}
_EMPTY = frozenset(
    [
        "\\emptyset",
        "no solution",
        "no solutions",
        "no real solution",
        "no real solutions",
        "none",
        "no real roots",
        "no roots",
        "empty set",
        "the empty set",
    ]
)
_NO_VALUE = frozenset(["does not exist", "dne", "undefined"])


class _Undefined:
    """A division by zero."""


UNDEFINED = _Undefined()


def compare_leaves(answer: str, gold: str) -> bool | None:
    """Compare two normalized single values by every tier that needs no sympy."""
    if _squeeze(answer) == _squeeze(gold):
        return True
    if _RATIO.fullmatch(answer) or _RATIO.fullmatch(gold):
        return _are_proportional(answer.split(":"), gold.split(":"))
    if (clock := read_clock(gold)) is not None:
        shown = read_clock(answer)
        is_same = shown is not None and shown.is_same(clock)
        if is_same or not _is_reduced_ratio(gold):
            return is_same
    if is_date(answer) or is_date(gold):
        return are_same_date(answer, gold)
    answer_value, gold_value = rational_of(answer), rational_of(gold)
    if answer_value is UNDEFINED or gold_value is UNDEFINED:
        return False
    if isinstance(answer_value, Fraction) and isinstance(gold_value, Fraction):
        return answer_value == gold_value
    if gold in INFINITIES or answer in INFINITIES:
        return _compare_infinities(answer, gold, answer_value or gold_value)
    if DOTS in gold:
        # A pattern that goes on is what it is written as.
        return False
    if (choice := read_option(gold)) and not choice.text:
        return _compare_choice(answer, choice.letter, is_number=answer_value is not None)
    return _compare_texts(answer, gold)


def is_gradable_value(value: str) -> bool | None:
    """Whether an answer can be compared with this gold value; None: sympy has to try."""
    quantity = split_unit(value)
    if read_clock(quantity.value) or DOTS in value or is_date(value):
        return True
    number = rational_of(quantity.value)
    if number is UNDEFINED or not value:
        return False
    if isinstance(number, Fraction) or value in INFINITIES or _words(value) in _EMPTY:
        return True
    if _is_text(value):
        return len(_words(value).split()) <= MAX_TEXT_WORDS
    return True if _words(value) else None


@lru_cache(maxsize=4096)
def rational_of(value: str) -> Fraction | _Undefined | None:
    """A number, `UNDEFINED` for a division by zero, None for anything else."""
    try:
        return read_rational(value)
    except ZeroDivisionError:
        return UNDEFINED


def tier_of(value: str) -> str:
    """What decides a comparison with this gold value."""
    if isinstance(rational_of(value), Fraction):
        return "rational"
    return "choice" if read_option(value) else "text"


def _are_proportional(mine: list[str], theirs: list[str]) -> bool | None:
    """1:2:3 is 2:4:6; None where an entry is no rational number."""
    if len(mine) != len(theirs):
        return False
    values = [[rational_of(part) for part in side] for side in (mine, theirs)]
    first, second = ([v for v in side if isinstance(v, Fraction)] for side in values)
    if len(first) < len(mine) or len(second) < len(theirs):
        return None
    if not first[0] or not second[0]:
        return False
    return [v / first[0] for v in first] == [v / second[0] for v in second]


def _compare_infinities(answer: str, gold: str, number: object) -> bool | None:
    if answer in INFINITIES and gold in INFINITIES:
        return INFINITIES[answer] == INFINITIES[gold]
    return False if isinstance(number, Fraction) else None


def _is_reduced_ratio(gold: str) -> bool:
    """9:16, but not 12:30: whoever gives a ratio reduces it, and 12:00 has no value."""
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", gold)
    return match is not None and math.gcd(int(match[1]), int(match[2])) == 1


def _compare_choice(answer: str, letter: str, *, is_number: bool) -> bool | None:
    claim = read_claim(answer)
    if claim.letter or claim.several:
        return claim.letter == letter
    return False if is_number or _TEXT.fullmatch(_without_text_macro(answer)) else None


def _compare_texts(answer: str, gold: str) -> bool | None:
    mine, theirs = _words(answer), _words(gold)
    if any(mine in same and theirs in same for same in (_EMPTY, _NO_VALUE)):
        return True
    if not theirs:
        return False if mine and rational_of(gold) is not None else None
    if _said(answer, gold) == _said(gold, answer):
        return True
    if _is_text(gold) or _is_text(answer):
        return False
    # Few letters may be a product of variables: xy is yx.
    return sorted(_letters(answer)) == sorted(_letters(gold)) if mine else None


def _said(value: str, other: str) -> list[str]:
    """The words of a value in any order of its parts; case counts where letters are symbols."""
    is_text = "\\text" in value + other and _letters(value)[1:] == _letters(other)[1:]
    folds = all(map(_is_word, _letters(value).split())) or (is_text and len(_letters(value)) == 3)
    words = _letters(value).lower() if folds else _letters(value)
    return sorted(words.split(" and "))


def _is_word(letters: str) -> bool:
    """Words may begin with a capital; CO and Co are symbols, and so are R and r."""
    is_cased = letters.islower() or letters.istitle() or letters.isupper()
    return (len(letters) > 3 and is_cased) or letters.lower() in _SMALL_WORDS | {
        "and",
        "the",
        "of",
        "to",
    }


def _words(value: str) -> str:
    """The words of a value that is nothing but words, in lower case; "" for any other."""
    return _letters(value).lower()


def _letters(value: str) -> str:
    plain = _without_text_macro(value)
    if plain in _EMPTY:
        return plain
    return plain.replace("-", " ") if _TEXT.fullmatch(plain) else ""


def _is_text(value: str) -> bool:
    words = _words(value)
    return bool(words) and ("\\text" in value or " " in words or len(words) > 3)


def _without_text_macro(value: str) -> str:
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", value)
    return re.sub(r"\s+", " ", plain).strip(" .")


def _squeeze(value: str) -> str:
    return value.replace(" ", "")
