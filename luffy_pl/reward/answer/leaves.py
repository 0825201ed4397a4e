r"""Single values compared without sympy: rationals, times, choice letters, words.

Values are normalized text without a unit. Everything here is bounded in time and runs in the
training process. Comparisons have three values; None is "needs sympy".
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from luffy_pl.reward.answer.rational import read_rational
from luffy_pl.reward.answer.units import split_unit

MAX_TEXT_WORDS = 3
"""A gold of more words is prose, which no string comparison can grade."""

_CHOICE = re.compile(r"\(?([A-Ja-j])\)?")
_CHOICE_NAME = re.compile(r"(?:option|choice|answer)\s*:?\s*(?=\(?[A-J]\b)", re.IGNORECASE)
_CHOICE_AND_TEXT = re.compile(r"(?:\(([A-J])\)|([A-J])[.):])(?=\W|$)(.*)", re.DOTALL)
_CHOICE_MARK = re.compile(r"\([A-J]\)|(?<![A-Za-z])[A-J][.):]")
_CLOCK = re.compile(r"0?(\d{1,2}):(\d\d)(?::(\d\d))? ?([ap]\.?m)?", re.IGNORECASE)
_TEXT = re.compile(r"[^\W\d_]+(?:[ '\-][^\W\d_]+)*")
_RATIO = re.compile(r"[^:]+(?::[^:]+){2,}")
INFINITIES = {"\\infty": 1, "+\\infty": 1, "-\\infty": -1}
_EMPTY = frozenset(
    ["\\emptyset", "no solution", "no solutions", "no real solution", "no real solutions"]
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
    if (clock := _CLOCK.fullmatch(gold)) is not None:
        # A time is no ratio: 12:00 has no value.
        shown = _CLOCK.fullmatch(_without_text_macro(answer))
        return shown is not None and shown.groups() == clock.groups()
    answer_value, gold_value = rational_of(answer), rational_of(gold)
    if answer_value is UNDEFINED or gold_value is UNDEFINED:
        return False
    if isinstance(answer_value, Fraction) and isinstance(gold_value, Fraction):
        return answer_value == gold_value
    if gold in INFINITIES or answer in INFINITIES:
        return _compare_infinities(answer, gold, answer_value or gold_value)
    if letter := _choice_of(gold):
        return _compare_choice(answer, letter, is_number=answer_value is not None)
    return _compare_texts(answer, gold)


def is_gradable_value(value: str) -> bool | None:
    """Whether an answer can be compared with this gold value; None: sympy has to try."""
    quantity = split_unit(value)
    if _CLOCK.fullmatch(quantity.value):
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
    return "choice" if _choice_of(value) else "text"


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


def _choice_of(gold: str) -> str:
    """The letter a gold chooses, "" if it is none; a lower-case letter is a variable."""
    plain = _without_text_macro(gold)
    return plain.strip("()") if _CHOICE.fullmatch(plain) and plain.upper() == plain else ""


def _compare_choice(answer: str, letter: str, *, is_number: bool) -> bool | None:
    r"""`C`, `c`, `(C)`, `\text{C}`, `(C) 12` and `C. twelve` choose C."""
    plain = _CHOICE_NAME.sub("", _without_text_macro(answer), count=1)
    if chosen := _CHOICE.fullmatch(plain):
        return chosen.group(1).upper() == letter
    chosen = _CHOICE_AND_TEXT.fullmatch(plain)
    if chosen and not _CHOICE_MARK.search(chosen.group(3)):
        return (chosen.group(1) or chosen.group(2)) == letter
    return False if is_number or chosen or _TEXT.fullmatch(plain) else None


def _compare_texts(answer: str, gold: str) -> bool | None:
    mine, theirs = _words(answer), _words(gold)
    if any(mine in same and theirs in same for same in (_EMPTY, _NO_VALUE)):
        return True
    if not theirs:
        return False if mine and rational_of(gold) is not None else None
    if sorted(mine.split(" and ")) == sorted(theirs.split(" and ")):
        return True
    if _is_text(gold) or _is_text(answer):
        return False
    # Few letters may be a product of variables: xy is yx.
    return sorted(mine) == sorted(theirs) if mine else None


def _words(value: str) -> str:
    """The words of a value that is nothing but words, in lower case; "" for any other."""
    plain = _without_text_macro(value)
    if plain in _EMPTY:
        return plain
    return plain.lower().replace("-", " ") if _TEXT.fullmatch(plain) else ""


def _is_text(value: str) -> bool:
    words = _words(value)
    return bool(words) and ("\\text" in value or " " in words or len(words) > 3)


def _without_text_macro(value: str) -> str:
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", value)
    return re.sub(r"\s+", " ", plain).strip(" .")


def _squeeze(value: str) -> str:
    return value.replace(" ", "")
