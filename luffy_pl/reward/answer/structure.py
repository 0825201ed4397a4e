r"""What an answer is made of: a value, an equation, several values, an interval, a matrix.

A list (`1, 3`, `x=1 or x=3`, `\pm 2`) and a set have no order; a span (`(1,2)`, `[0,1)`,
`1 < x \le 3`) has one, and ends that matter. Elements are normalized text, or answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from luffy_pl.reward.answer.normalize import ROW_BREAK

MAX_DEPTH = 24
"""Brackets nested deeper are not taken apart."""

Kind = Literal["value", "chain", "list", "set", "span", "union", "matrix"]


@dataclass(frozen=True)
class Answer:
    """An answer taken apart.

    `source`: its normalized text. `name`: the variable it is assigned to, "" without one.
    `ends`: the brackets of a span, the shape of a matrix. `parts`: elements, or the sides of
    a chain of equalities; none for a value, whose text is `source`.
    """

    kind: Kind
    source: str
    parts: tuple[Answer, ...] = ()
    name: str = ""
    ends: str = ""


_TOKEN = re.compile(
    r"\\[{}]|\\langle|\\rangle|\\cup(?![A-Za-z])|\\pm(?![A-Za-z])|\\begin\{[a-z]*\}|\\end\{[a-z]*\}"
    r"|\\(?:le|ge|ne|in|approx|mid)(?![A-Za-z])|\\[A-Za-z]+|\\.|(?<![A-Za-z])(?:and|or)(?![A-Za-z])"
    r"|[<>=,;{}()\[\]]|[A-Za-z]+|.",
    re.DOTALL,
)
_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle"])
_NAME = re.compile(
    r"\\?[A-Za-z]{1,8}(?:_\{?\\?\w{1,8} ?\}?)?'?(?: ?\([A-Za-z0-9, ]{1,20}\))?"
    r"|\( ?[A-Za-z](?: ?, ?[A-Za-z])+ ?\)|\\text\{[^{}]*\}"
    r"|\\(?:overline|angle|triangle) ?\{?[A-Z]+\}?|\|[A-Z]+\|"
)
_VARIABLE = re.compile(r"\\?[A-Za-z]{1,8}(?:_\{?\w{1,8}\}?)?(?: ?\([a-z]\))?")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}(\^\{?(?:T|\\top)\}?)?", re.DOTALL)
_DIGIT_GROUPS = re.compile(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_RELATIONS = ("<", ">", "\\le", "\\ge")
_OUTWARD = re.compile(r"([\[\]])([^\[\]()]+)([\[\]])")
_BUILDER = re.compile(
    r"[A-Za-z] ?(?:\\in ?\\mathbb ?\{R\} ?)?(?::|\\mid(?![A-Za-z])|\|)(.+)", re.DOTALL
)


def read_answer(text: str, *, join_digit_groups: bool = True) -> Answer:
    """Take normalized `text` apart.

    `join_digit_groups`: whether a bare `1,234` is one number; inside brackets it never is.
    """
    if join_digit_groups and has_digit_groups(text):
        text = _DIGIT_GROUPS.sub(lambda match: match.group().replace(",", ""), text)
    return _read(text.strip(), depth=0)


def has_digit_groups(text: str) -> bool:
    """Whether a bare comma in `text` may separate thousands."""
    outside = "".join(_split(text, lambda token: token in _OPENING, keep_inside=False))
    return _DIGIT_GROUPS.search(outside) is not None


def _read(text: str, depth: int) -> Answer:
    text = text.strip()
    if depth > MAX_DEPTH:
        return Answer("value", text)
    text = _OUTWARD.sub(_inward, text)
    for reader in (_read_matrix, _read_list, _read_relation, _read_union, _read_brackets):
        answer = reader(text, depth + 1)
        if answer is not None:
            return answer
    return Answer("value", text)


def _inward(match: re.Match[str]) -> str:
    """`]0,1]` as `(0,1]`: a bracket that looks away leaves its end out."""
    low, inside, high = match.groups()
    if "," not in inside and ";" not in inside:
        return match.group()
    return f"{'(' if low == ']' else low}{inside}{')' if high == '[' else high}"


def _read_matrix(text: str, depth: int) -> Answer | None:
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match.group(2):
        return None
    rows = [row.split("&") for row in match.group(2).split(ROW_BREAK.strip()) if row.strip()]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    if match.group(3):
        rows = [list(row) for row in zip(*rows, strict=True)]
    parts = tuple(_read(cell, depth) for row in rows for cell in row)
    # Bars are a determinant, not a matrix.
    bars = "|" if match.group(1) in {"vmatrix", "Vmatrix"} else ""
    return Answer("matrix", text, parts, ends=f"{bars}{len(rows)}x{len(rows[0])}")


def _read_list(text: str, depth: int) -> Answer | None:
    pieces = _split(text, lambda token: token in {",", ";", "and", "or"})
    pieces = [piece for piece in pieces if piece]
    if len(pieces) < 2:
        return _read_plus_minus(text, depth)
    parts: list[Answer] = []
    for piece in pieces:
        part = _read(piece, depth)
        parts.extend(part.parts if part.kind == "list" else [part])
    names = [part.name for part in parts]
    if len(parts) == len(set(names)) and all(names):
        # x=1, y=2 is the point (1, 2), in whatever order it was said.
        parts.sort(key=lambda part: part.name)
        return Answer("span", text, tuple(parts), ends="()")
    return Answer("list", text, tuple(parts))


def _read_plus_minus(text: str, depth: int) -> Answer | None:
    pieces = _split(text, lambda token: token == "\\pm")
    if len(pieces) != 2 or any("\\pm" in piece for piece in pieces):
        return None
    before, after = pieces
    parts = tuple(_read(f"{before}{sign}{after}", depth) for sign in ("+", "-"))
    return Answer("list", text, parts)


def _read_relation(text: str, depth: int) -> Answer | None:
    marks: list[str] = []

    def is_relation(token: str) -> bool:
        hit = token in {"=", "\\equiv", "\\in", "\\approx", *_RELATIONS}
        if hit:
            marks.append(token)
        return hit

    sides = _split(text, is_relation)
    if not marks or not all(sides):
        return None
    if set(marks) <= {"=", "\\equiv", "\\approx"}:
        # What stands behind "approximately" is a rounding of what stands before it.
        exact = marks.index("\\approx") + 1 if "\\approx" in marks else len(sides)
        if exact == 1 and _NAME.fullmatch(sides[0]):
            exact = 2
        return _read_equalities(sides[:exact], text, depth)
    if marks == ["\\in"] and _NAME.fullmatch(sides[0]):
        return _read(sides[1], depth)
    return _read_inequality(sides, marks, text, depth)


def _read_equalities(sides: list[str], text: str, depth: int) -> Answer:
    name = sides[0] if len(sides) > 1 and _NAME.fullmatch(sides[0]) else ""
    parts = [_read(side, depth) for side in (sides[1:] if name else sides)]
    if len(parts) == 1:
        only = parts[0]
        return Answer(only.kind, only.source, only.parts, name, only.ends)
    return Answer("chain", text, tuple(parts), name)


def _read_inequality(sides: list[str], marks: list[str], text: str, depth: int) -> Answer | None:
    r"""`x < 3` and `1 \le x < 3` as the intervals they mean."""
    if not set(marks) <= set(_RELATIONS):
        return None
    if marks[0] in {">", "\\ge"}:
        sides = sides[::-1]
        marks = [{">": "<", "\\ge": "\\le"}.get(mark, mark) for mark in marks[::-1]]
    if not set(marks) <= {"<", "\\le"}:
        return None
    if len(sides) == 2:
        if _VARIABLE.fullmatch(sides[0]):
            sides, marks = ["-\\infty", *sides], ["<", *marks]
        elif _VARIABLE.fullmatch(sides[1]):
            sides, marks = [*sides, "\\infty"], [*marks, "<"]
    if len(sides) != 3 or not _VARIABLE.fullmatch(sides[1]):
        return None
    ends = ("[" if marks[0] == "\\le" else "(") + ("]" if marks[1] == "\\le" else ")")
    parts = (_read(sides[0], depth), _read(sides[2], depth))
    return Answer("span", f"{ends[0]}{sides[0]},{sides[2]}{ends[1]}", parts, ends=ends)


def _read_union(text: str, depth: int) -> Answer | None:
    pieces = _split(text, lambda token: token == "\\cup")
    if len(pieces) < 2 or not all(pieces):
        return None
    return Answer("union", text, tuple(_read(piece, depth) for piece in pieces))


def _read_brackets(text: str, depth: int) -> Answer | None:
    """What one pair of brackets encloses; a pair around a single value is dropped."""
    tokens = _TOKEN.findall(text)
    if len(tokens) < 2 or tokens[0] not in _OPENING or tokens[-1] not in _CLOSING:
        return None
    inside = text[len(tokens[0]) : -len(tokens[-1])]
    if len(_split(text, lambda token: token in _OPENING, keep_inside=False)) != 2:
        return None
    if tokens[0] == "{":
        return _read(inside, depth)
    pieces = _split(inside, lambda token: token in {",", ";"})
    if tokens[0] == "\\{":
        # A rule such as \{x : x > 1\} is what its condition says, and no list of elements.
        if ":" in inside or "\\mid" in inside or "|" in inside:
            return _read_builder(inside, depth)
        return Answer("set", text, _elements(pieces, depth))
    if len(pieces) == 1:
        return _read(inside, depth) if tokens[0] == "(" else None
    ends = "()" if tokens[0] == "\\langle" else tokens[0] + tokens[-1]
    return Answer("span", text, tuple(_read(piece, depth) for piece in pieces), ends=ends)


def _read_builder(inside: str, depth: int) -> Answer | None:
    match = _BUILDER.fullmatch(inside.strip())
    ruled = _read(match[1], depth) if match else None
    return ruled if ruled is not None and ruled.kind in {"span", "union"} else None


def _elements(pieces: list[str], depth: int) -> tuple[Answer, ...]:
    parts: list[Answer] = []
    for piece in pieces:
        part = _read(piece, depth)
        parts.extend(part.parts if part.kind == "list" else [part])
    return tuple(parts)


def _split(
    text: str, is_separator: Callable[[str], bool], *, keep_inside: bool = True
) -> list[str]:
    """Cut `text` at separators outside brackets; `keep_inside=False` drops what brackets hold."""
    pieces: list[list[str]] = [[]]
    depth = 0
    for token in _TOKEN.findall(text):
        if token in _CLOSING or token.startswith("\\end{"):
            depth = max(depth - 1, 0)
        if depth == 0 and is_separator(token):
            pieces.append([])
        elif depth == 0 or keep_inside:
            pieces[-1].append(token)
        if token in _OPENING or token.startswith("\\begin{"):
            depth += 1
    return ["".join(piece).strip() for piece in pieces]
