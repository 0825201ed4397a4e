r"""Whether an answer equals the gold: cheap and exact tiers first, sympy only where they end.

    string -> rational -> choice letter, text -> element by element -> gate -> symbolic.py

Everything here runs in the training process: it is bounded in time, imports no sympy and never
evaluates anything but `read_rational`. Comparisons have three values; None is "needs sympy".
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial

from luffy_pl.answer.choice import GoldChoice, read_claim, read_option
from luffy_pl.answer.intervals import are_same_union
from luffy_pl.answer.leaves import compare_leaves, is_gradable_value, rational_of, tier_of
from luffy_pl.answer.spelling import spell, without_qualifier
from luffy_pl.answer.structure import Answer, has_digit_groups, read_answer
from luffy_pl.answer.tolerance import Tolerance, ValueComparison
from luffy_pl.answer.units import BASE, PERCENT, are_same_unit, split_unit

MAX_CHARACTERS = 512
"""Longest answer that is looked at, in characters; twice the gold's length if that is more."""
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
MAX_PLAIN_DIGITS = 18
"""A gold of so many digits and nothing else needs no reading: most golds are."""
MAX_REPETITIONS = 3
"""A list may repeat its elements so often."""
_VECTOR = re.compile(r"1x\d+|\d+x1")
_LETTER = re.compile(r"[A-Za-z]")
_QUOTIENT = re.compile(r"[:/]|\\frac")
_APPLIED = re.compile(r"([A-Za-z]) ?\(([A-Za-z])\)")


@dataclass(frozen=True)
class Decision:
    """`equal` is None where only sympy can tell; `tier` names what decided."""

    equal: bool | None
    tier: str


def compare_cheaply(answer: str, gold: str, tolerance: Tolerance = Tolerance()) -> Decision:  # noqa: B008
    """Compare two raw answers without sympy, in bounded time."""
    if len(answer) > max(MAX_CHARACTERS, 2 * len(gold)):
        return Decision(False, "gate:length")
    plain_answer, plain_gold = spell(answer), spell(gold)
    if not plain_answer:
        return Decision(False, "string")
    if plain_answer.replace(" ", "") == plain_gold.replace(" ", ""):
        return Decision(True, "string")
    compare = ValueComparison(partial(compare_values_cheaply, tolerance=tolerance), tolerance)
    return Decision(compare_answers(answer, gold, compare), _tier(plain_gold))


def compare_values_cheaply(answer: str, gold: str, *, tolerance: Tolerance) -> bool | None:
    """`compare_leaves`, and a rounded value where `tolerance` allows one."""
    same = compare_leaves(answer, gold)
    if same or not tolerance.allows_rounding(gold):
        return same
    value, rounded = rational_of(answer), rational_of(gold)
    if isinstance(value, Fraction) and isinstance(rounded, Fraction):
        return tolerance.is_rounded(value, rounded)
    return same


@lru_cache(maxsize=4096)
def is_gradable(gold: str) -> bool | None:
    """Whether an answer can be compared with `gold` at all; None: sympy has to try."""
    if gold.isascii() and gold.isdecimal() and len(gold) <= MAX_PLAIN_DIGITS:
        return True
    plain, _ = without_qualifier(spell(gold))
    if (choice := read_option(plain)) is not None:
        plain = choice.letter
    if not any(c.isalnum() for c in plain) and plain != "\\emptyset":
        return False
    return _all_true(is_gradable_value(leaf) for leaf in _leaves(read_answer(plain)))


def compare_answers(answer: str, gold: str, compare: ValueComparison) -> bool | None:
    """Compare two raw answers part by part, single values by `compare`."""
    plain_answer, plain_gold = spell(answer), spell(gold)
    if (choice := read_option(plain_gold)) is not None:
        verdict = _compare_choice(answer, choice, compare)
        if verdict is not None or choice.text:
            return verdict
    (plain_answer, mine), (plain_gold, theirs) = map(without_qualifier, (plain_answer, plain_gold))
    if mine and theirs and mine[0] != theirs[0]:
        return False
    return _compare_read(plain_answer, plain_gold, compare)


def _compare_choice(answer: str, gold: GoldChoice, compare: ValueComparison) -> bool | None:
    """Compare by the letter that the answer claims, or by the text of the option."""
    claim = read_claim(answer)
    if not gold.is_marked and re.fullmatch(r"[a-j]", spell(answer)):
        return False  # a variable, as long as nothing says that it is an option
    if claim.letter or claim.several:
        return claim.letter == gold.letter
    return compare_answers(answer, gold.text, compare) if gold.text else None


def _compare_read(plain_answer: str, plain_gold: str, compare: ValueComparison) -> bool | None:
    gold_parts = read_answer(plain_gold)
    # `1,234` is a number unless the other side is a list; `3,5` is 3.5 if the gold is no integer.
    join = True
    if has_digit_groups(plain_answer) != has_digit_groups(plain_gold):
        other = read_answer(plain_gold if has_digit_groups(plain_answer) else plain_answer)
        join = other.kind == "value"
        gold_parts = read_answer(plain_gold, join_digit_groups=join)
    elif _DECIMAL_COMMA.fullmatch(plain_answer) and not has_digit_groups(plain_answer):
        value = rational_of(plain_gold)
        if isinstance(value, Fraction) and value.denominator != 1:
            plain_answer = plain_answer.replace(",", ".")
    return _compare(read_answer(plain_answer, join_digit_groups=join), gold_parts, compare)


def _compare(answer: Answer, gold: Answer, compare: ValueComparison) -> bool | None:
    if _is_sum_of_numbers(gold):
        return _compare(answer, gold.parts[-1], compare)
    if _are_different_letters(_variable_of(answer), _variable_of(gold)):
        return False
    if gold.name and answer.name == gold.name and "chain" in {answer.kind, gold.kind}:
        # Of two chains for one variable the ends are compared, as other graders do.
        return _compare(_end_of(answer), _end_of(gold), compare)
    if gold.kind == "chain" or (gold.kind == "value" and gold.name and answer.kind == "chain"):
        return _compare_equations(answer, gold, compare)
    if answer.kind == "chain":
        # Every side has to be right: 5 = 6 is not a way of saying 6.
        return _all_true(_compare(side, gold, compare) for side in answer.parts)
    if answer.kind == "value" and gold.kind == "value":
        return _compare_named(answer, gold, compare)
    if answer.kind in {"list", "set"} and gold.kind == "value":
        return _compare_unordered(answer.parts, (gold,), compare)
    if answer.kind == "value" and gold.kind in {"list", "set"}:
        # A set builder, \mathbb{R} and their like are values to us and sets to sympy.
        return _compare_unordered((answer,), gold.parts, compare)
    if answer.kind == "list" and {part.kind for part in answer.parts} == {gold.kind}:
        return _compare_unordered(answer.parts, (gold,), compare)
    if gold.kind == "list" and {part.kind for part in gold.parts} == {answer.kind}:
        return _compare_unordered((answer,), gold.parts, compare)
    if "except" in {answer.kind, gold.kind}:
        return _compare_exceptions(answer, gold, compare)
    if "union" in {answer.kind, gold.kind}:
        return _compare_unions(answer, gold, compare)
    return _compare_collections(answer, gold, compare)


def _end_of(side: Answer) -> Answer:
    return side.parts[-1] if side.kind == "chain" else dataclasses.replace(side, name="")


def _variable_of(side: Answer) -> str:
    """The variable of an inequality, or of the first one in a union of them."""
    return side.variable or next((part.variable for part in side.parts if part.variable), "")


def _is_sum_of_numbers(gold: Answer) -> bool:
    r"""`\log_2 8 = 3` and `2+3=5`: no equation in a variable."""
    return gold.kind == "chain" and not _LETTER.search(re.sub(r"\\[A-Za-z]+", "", gold.source))


def _compare_named(answer: Answer, gold: Answer, compare: ValueComparison) -> bool | None:
    if _are_different_letters(answer.name, gold.name):
        # y = x is another way to say x = y, but y = 5 none to say x = 5.
        return gold.source == answer.name and answer.source == gold.name
    mine, theirs = (re.sub(r"[\s{}]", "", side.name) for side in (answer, gold))
    if mine and theirs and mine != theirs and _QUOTIENT.search(mine + theirs):
        # x/y = 2 is not y/x = 2.
        return compare(_as_equation(answer), _as_equation(gold))
    source = _with_argument_of(gold.name, answer)
    return _compare_quantities(source, gold.source, compare)


def _with_argument_of(gold_name: str, answer: Answer) -> str:
    """f(n) = n+1 says what f(x) = x+1 says."""
    mine, theirs = _APPLIED.fullmatch(answer.name), _APPLIED.fullmatch(gold_name)
    if mine is None or theirs is None or mine[1] != theirs[1] or mine[2] == theirs[2]:
        return answer.source
    letters = re.sub(r"\\[A-Za-z]+", "", answer.source)
    if theirs[2] in letters:
        return answer.source
    return re.sub(
        r"\\[A-Za-z]+|[A-Za-z]",
        lambda m: theirs[2] if m[0] == mine[2] else m[0],
        answer.source,
    )


def _compare_exceptions(answer: Answer, gold: Answer, compare: ValueComparison) -> bool | None:
    """All numbers but some, also as a union of intervals."""
    sides = [_all_but(side) if side.kind == "except" else side for side in (answer, gold)]
    if answer.kind == gold.kind:
        if _are_different_letters(answer.name, gold.name):
            return False
        return _compare_unordered(answer.parts, gold.parts, compare)
    if any(side is None or side.kind != "union" for side in sides):
        return False
    return _compare_unions(sides[0], sides[1], compare)  # type: ignore[arg-type]


def _all_but(side: Answer) -> Answer | None:
    r"""\mathbb{R} without some rational numbers as a union of intervals."""
    values = {part.source: rational_of(part.source) for part in side.parts}
    if not all(isinstance(value, Fraction) for value in values.values()):
        return None
    ordered = sorted(values, key=lambda source: values[source])  # type: ignore[arg-type,return-value]
    ends = ["-\\infty", *ordered, "\\infty"]
    pieces = [
        Answer("span", f"({low},{high})", (Answer("value", low), Answer("value", high)), ends="()")
        for low, high in itertools.pairwise(ends)
    ]
    return Answer("union", side.source, tuple(pieces))


def _compare_collections(answer: Answer, gold: Answer, compare: ValueComparison) -> bool | None:
    kinds = {answer.kind, gold.kind}
    if "value" in kinds:
        return compare(answer.source, gold.source) if "span" in kinds else False
    if kinds <= {"list", "set"}:
        return _compare_unordered(answer.parts, gold.parts, compare)
    if "set" in kinds:
        return False
    same_ends = answer.ends == gold.ends
    is_listed = "list" in kinds and {answer.ends, gold.ends} <= {"", "()", "[]"}
    # A row or column is the point with its entries.
    is_vector = kinds == {"matrix", "span"} and any(
        {"()"} < {answer.ends, gold.ends} and _VECTOR.fullmatch(ends)
        for ends in (answer.ends, gold.ends)
    )
    if not (same_ends or is_listed or is_vector) or len(answer.parts) != len(gold.parts):
        return False
    verdict = _compare_in_order(answer.parts, gold.parts, compare)
    # y=2, x=1 is the point (1, 2), and is also met by 2, 1.
    if verdict is not True and bool(answer.spoken) != bool(gold.spoken):
        spoken = [side.spoken or side.parts for side in (answer, gold)]
        names = {part.name for part in answer.spoken or gold.spoken}
        if "list" in kinds or not names <= {"x", "y", "z"}:
            return _compare_in_order(spoken[0], spoken[1], compare)
    return verdict


def _compare_in_order(
    answers: tuple[Answer, ...], golds: tuple[Answer, ...], compare: ValueComparison
) -> bool | None:
    return _all_true(
        _compare(one, other, compare) for one, other in zip(answers, golds, strict=True)
    )


def _compare_unordered(
    answers: tuple[Answer, ...], golds: tuple[Answer, ...], compare: ValueComparison
) -> bool | None:
    """Each gold element must be among the answers, and nothing else."""
    left = list({part.source: part for part in answers}.values())
    wanted = list({part.source: part for part in golds}.values())
    if len(left) != len(wanted):
        return _cover_each_other(left, wanted, compare)
    undecided = False
    for gold in wanted:
        verdicts = [_compare(answer, gold, compare) for answer in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _cover_each_other(
    answers: list[Answer], golds: list[Answer], compare: ValueComparison
) -> bool | None:
    """Whether they are the same but for repetitions: 1, 1.0, 2 and 1, 2."""
    few, many = sorted((answers, golds), key=len)
    if len(many) > MAX_REPETITIONS * len(few):
        return False
    verdicts = [[_compare(a, g, compare) for g in golds] for a in answers]
    lines = [*verdicts, *zip(*verdicts, strict=True)]
    return _all_true(True if True in line else None if None in line else False for line in lines)


def _compare_unions(answer: Answer, gold: Answer, compare: ValueComparison) -> bool | None:
    """Equal piece by piece, or as sets of numbers: pieces may touch or overlap."""
    pieces = [side.parts if side.kind in {"union", "list"} else (side,) for side in (answer, gold)]
    if _compare_unordered(pieces[0], pieces[1], compare):
        return True
    if not all(_is_union_of_intervals(side) for side in (answer, gold)):
        return compare(answer.source, gold.source)
    same = are_same_union(pieces[0], pieces[1])
    if same is not None:
        return same
    texts = [" \\cup ".join(piece.source for piece in side) for side in pieces]
    return compare(texts[0], texts[1])


def _is_union_of_intervals(side: Answer) -> bool:
    if side.kind == "span":
        return len(side.parts) == 2
    return side.kind in {"union", "list"} and all(part.kind == "span" for part in side.parts)


def _compare_equations(answer: Answer, gold: Answer, compare: ValueComparison) -> bool | None:
    """An equation equals another equation, never the value of one of its sides."""
    if answer.kind == "chain" or answer.name:
        return compare(_as_equation(answer), _as_equation(gold))
    if gold.name:
        return _compare(answer, gold.parts[-1], compare) if gold.parts else None
    return False


def _as_equation(side: Answer) -> str:
    if side.kind == "chain":
        return side.source
    return f"{side.name} = {side.source}"


def _compare_quantities(answer: str, gold: str, compare: ValueComparison) -> bool | None:
    mine, theirs = split_unit(answer), split_unit(gold)
    if mine.unit and theirs.unit and not are_same_unit(mine.unit, theirs.unit):
        units = {mine.unit.partition(" ")[0], theirs.unit.partition(" ")[0]}
        # The base of a number is part of its value, whatever is said of units.
        if compare.tolerance.units == "match" or BASE in units:
            return False
    same = compare(mine.value, theirs.value)
    if same is False and (mine.unit == PERCENT) != (theirs.unit == PERCENT):
        # 50% is said as 50 and as 0.5.
        mine_of_100 = f"({mine.value})" if mine.unit else f"({mine.value})\\cdot 100"
        theirs_of_100 = f"({theirs.value})" if theirs.unit else f"({theirs.value})\\cdot 100"
        return compare(mine_of_100, theirs_of_100)
    return same


def _leaves(answer: Answer) -> Iterable[str]:
    if answer.kind == "value":
        yield answer.source
    for part in answer.parts:
        yield from _leaves(part)


def _all_true(verdicts: Iterable[bool | None]) -> bool | None:
    """False if any is False, else None if any is None; stops at the first False."""
    undecided = False
    for verdict in verdicts:
        if verdict is False:
            return False
        undecided |= verdict is None
    return None if undecided else True


def _are_different_letters(mine: str, theirs: str) -> bool:
    return len(mine) == 1 == len(theirs) and mine != theirs


def _tier(gold: str) -> str:
    answer = read_answer(gold)
    return tier_of(split_unit(answer.source).value) if answer.kind == "value" else "parts"
