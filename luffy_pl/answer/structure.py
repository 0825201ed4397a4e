r"""What an answer is made of: a value, an equation, several values, an interval, a matrix.

A list (`1, 3`, `x=1 or x=3`, `\pm 2`) and a set have no order; a span (`(1,2)`, `[0,1)`,
`1 < x \le 3`) has one, and ends that matter. Elements are normalized text, or answers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from luffy_pl.answer.leaves import rational_of
from luffy_pl.answer.normalize import ROW_BREAK

MAX_DEPTH = 24
"""Brackets nested deeper are not taken apart."""
MAX_SIGNS = 3
"""More signs `\\pm` than this are not taken apart."""

Kind = Literal["value", "chain", "list", "set", "span", "union", "matrix", "except"]


@dataclass(frozen=True)
class Answer:
    """An answer taken apart.

    `source`: its normalized text. `name`: the variable it is assigned to, "" without one.
    `ends`: the brackets of a span, the shape of a matrix. `parts`: elements, or the sides of
    a chain of equalities; none for a value, whose text is `source`. `except`: all numbers but its
    parts. `spoken`: the parts of a named point in the order in which they were said. `variable`:
    what an inequality is about.
    """

    kind: Kind
    source: str
    parts: tuple[Answer, ...] = ()
    name: str = ""
    ends: str = ""
    spoken: tuple[Answer, ...] = ()
    variable: str = ""


_TOKEN = re.compile(
    r"\\[{}]|\\langle|\\rangle|\\cup(?![A-Za-z])|\\begin\{[a-z]*\}|\\end\{[a-z]*\}"
    r"|\\(?:le|ge|ne|in|approx|mid)(?![A-Za-z])|\\[A-Za-z]+|\\.|(?<![A-Za-z])(?:and|or)(?![A-Za-z])"
    r"|[<>=,;{}()\[\]]|[A-Za-z]+|.",
    re.DOTALL,
)
_SEPARATORS = frozenset([",", ";", "and", "or"])
_HAS_SEPARATOR = re.compile(r"[,;]|and|or")
_HAS_RELATION = re.compile(r"[=<>]|\\(?:equiv|in|approx|ne|le|ge)(?![A-Za-z])")
_FIRST_OF_BRACKETS = frozenset(["(", "[", "{", "\\"])
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z]) ?")
_SETMINUS = re.compile(r"\\mathbb ?\{R\} ?(?:\\setminus|\\backslash|-|\\) ?\\\{([^{}\\]*)\\\}")
_NUMBERED = re.compile(r"(\\?(?:[xyzrtkws]|lambda|theta|alpha))_\{?\d\}?")
_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle"])
_SYMBOL = r"\\?[A-Za-z]{1,8}(?:_(?:\{[^{}]{1,16}\}|\\?\w{1,8} ?))?'*"
_NAMED = (
    rf"(?:{_SYMBOL}(?: ?\^\{{? ?-1 ?\}}?)?(?: ?\([^()=]{{1,20}}\))?"
    rf"|\\text\{{[^{{}}]*\}}(?: ?\([^()=]{{1,20}}\))?"
    r"|[EP]\[[^=\[\]]{1,20}\]|\|[A-Z](?: ?\\c[au]p ?[A-Z])*\||m ?\\angle ?[A-Z]{1,3}"
    r"|\\(?:overline|overrightarrow|bar|hat|vec|tilde) ?\{?[A-Za-z]+\}?"
    r"|\\(?:angle|triangle) ?\{?(?: ?[A-Za-z](?:_\{?\w\}?)?'?){1,4}\}?"
    r"|\|(?:[A-Z]+|[a-wz])\|"
    r"|\\(?:sin|cos|tan|cot|sec|csc|log|ln|max|min|det|deg|gcd|Pr)(?![A-Za-z])"
    r" ?(?:[^=<>+-]|(?<=\()[A-Za-z][+-]){1,30}|\\(?:int|sum|prod|lim)(?![A-Za-z])[^=<>]{1,60}"
    r"|\\mathbb\{[EP]\} ?[\[(][^=\[\]]{1,20}[\])])"
)
_NAME = re.compile(
    rf"{_NAMED}|{_NAMED} ?[:/] ?{_NAMED}|\\frac\{{ ?{_NAMED} ?\}}\{{ ?{_NAMED} ?\}}"
    r"|\( ?[A-Za-z](?:_\{?\w\}?)?(?: ?, ?[A-Za-z](?:_\{?\w\}?)?)+ ?\)"
)
_CONSTANTS = frozenset(["\\pi", "e", "i"])
_POINT = re.compile(r"(?P<name>[A-Z]'?(?:_\{?\d\}?)?) ?(?P<point>\([^()]*,[^()]*\))")
_VARIABLE = re.compile(r"\\?[A-Za-z]{1,8}(?:_\{?\w{1,8}\}?)?(?: ?\([a-z]\))?")
_MATRIX = re.compile(
    r"(?P<factor>(?:(?!\\begin)[^=,<>])*?)(?:\\cdot|\\times)? ?"
    r"\\begin\{(?P<kind>[pbvBV]?matrix)\}(?P<rows>.*)\\end\{(?P=kind)\}"
    r"(?P<transposed>\^\{?(?:T|\\top)\}?)?",
    re.DOTALL,
)
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
    if not _DIGIT_GROUPS.search(text):
        return False
    outside = "".join(_split(text, lambda token: token in _OPENING, keep_inside=False))
    return _DIGIT_GROUPS.search(outside) is not None


def _read(text: str, depth: int) -> Answer:
    text = text.strip()
    if depth > MAX_DEPTH:
        return Answer("value", text)
    if "]" in text or "[" in text:
        text = _OUTWARD.sub(_inward, text)
    for reader in (_read_matrix, _read_list, _read_relation, _read_union, _read_named_point,
                   _read_brackets):  # fmt: skip
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
    match = _MATRIX.fullmatch(text) if "matrix}" in text else None
    if match is None or "\\begin" in match["rows"]:
        return None
    rows = [row.split("&") for row in match["rows"].split(ROW_BREAK.strip()) if row.strip()]
    # Bars are a determinant, not a matrix.
    bars = "|" if match["kind"] in {"vmatrix", "Vmatrix"} else ""
    factor = match["factor"].strip()
    if not rows or len({len(row) for row in rows}) > 1 or (bars and factor):
        return None
    if match["transposed"]:
        rows = [list(row) for row in zip(*rows, strict=True)]
    if factor:
        factor = f"{factor}1" if factor in {"-", "+"} else factor
        rows = [[f"({factor})\\cdot ({cell.strip()})" for cell in row] for row in rows]
    parts = tuple(_read(cell, depth) for row in rows for cell in row)
    return Answer("matrix", text, parts, ends=f"{bars}{len(rows)}x{len(rows[0])}")


def _read_list(text: str, depth: int) -> Answer | None:
    if not _HAS_SEPARATOR.search(text):
        return _read_plus_minus(text, depth)
    groups = [piece for piece in _split(text, lambda token: token == ";") if piece]
    pieces = [piece for piece in _split(text, lambda token: token in _SEPARATORS) if piece]
    if len(pieces) < 2:
        return _read_plus_minus(text, depth)
    if 1 < len(groups) < len(pieces) and all("," in group for group in groups):
        points = [_read(group, depth) for group in groups]
        if len({len(point.parts) for point in points}) == 1:
            parts = [_as_point(point) for point in points]
            return Answer("list", text, tuple(parts))
    parts = []
    for piece in pieces:
        part = _read(piece, depth)
        parts.extend(part.parts if part.kind == "list" else [part])
    return _listed(text, parts)


def _as_point(group: Answer) -> Answer:
    return Answer("span", group.source, group.parts, ends="()", spoken=group.spoken)


def _listed(text: str, parts: list[Answer]) -> Answer:
    """A list, or what its elements say together: a point, several points, one interval."""
    names = [part.name for part in parts]
    if all(names) and not _are_numbered_roots(names):
        size = len(set(names))
        if len(names) == size:
            # x=1, y=2 is the point (1, 2), in whatever order it was said.
            return _named_point(parts)
        if size > 1 and names == names[:size] * (len(names) // size):
            points = [parts[place : place + size] for place in range(0, len(parts), size)]
            return Answer("list", text, tuple(map(_named_point, points)))
    if parts[0].kind == "except":
        left_out = [p for part in parts for p in (part.parts if part.kind == "except" else [part])]
        return Answer("except", text, tuple(left_out), parts[0].name)
    return _intersection(text, parts) or Answer("list", text, tuple(parts))


def _named_point(parts: list[Answer]) -> Answer:
    ordered = tuple(sorted(parts, key=lambda part: part.name))
    text = ", ".join(f"{part.name}={part.source}" for part in parts)
    return Answer("span", text, ordered, ends="()", spoken=tuple(parts))


def _are_numbered_roots(names: list[str]) -> bool:
    """`x_1`, `x_2`: the solutions of one equation, in no order."""
    found = [_NUMBERED.fullmatch(name.strip()) for name in names]
    return all(found) and len({match[1] for match in found if match}) == 1


def _intersection(text: str, parts: list[Answer]) -> Answer | None:
    """`x>1, x<2` is `1<x<2`: two half-lines that together would be everything."""
    if len(parts) != 2 or any(len(part.ends) != 2 or len(part.parts) != 2 for part in parts):
        return None
    for first, second in (parts, parts[::-1]):
        is_upward = first.parts[1].source == "\\infty" and first.parts[0].source != "-\\infty"
        is_downward = second.parts[0].source == "-\\infty" and second.parts[1].source != "\\infty"
        low, high = (rational_of(p.source) for p in (first.parts[0], second.parts[1]))
        if is_upward and is_downward and isinstance(low, Fraction) and isinstance(high, Fraction):
            if low >= high:
                return None
            ends = first.ends[0] + second.ends[1]
            return Answer("span", text, (first.parts[0], second.parts[1]), ends=ends)
    return None


def _read_plus_minus(text: str, depth: int) -> Answer | None:
    r"""`\frac{1\pm\sqrt5}{2}` is two values; `\pm` twice is four, beside a `\mp` two."""
    signs = list(_PLUS_MINUS.finditer(text))
    if not signs or text.startswith("\\{"):
        return None
    if any(sign[1] == "mp" for sign in signs):
        choices = [("+",) * len(signs), ("-",) * len(signs)]
    elif len(signs) <= MAX_SIGNS:
        choices = list(itertools.product("+-", repeat=len(signs)))
    else:
        return None
    parts: list[Answer] = []
    for choice in choices:
        left = iter(choice)
        plain = _PLUS_MINUS.sub(lambda sign, left=left: _sign(sign[1], next(left)), text)  # type: ignore[misc]
        part = _read(plain, depth)
        parts.extend(part.parts if part.kind == "list" else [part])
    return Answer("list", text, tuple(parts))


def _sign(macro: str, sign: str) -> str:
    return sign if macro == "pm" else {"+": "-", "-": "+"}[sign]


def _read_named_point(text: str, depth: int) -> Answer | None:
    """`P(1,2)`."""
    match = _POINT.fullmatch(text)
    if match is None:
        return None
    point = _read(match["point"], depth)
    return Answer(point.kind, point.source, point.parts, match["name"], point.ends)


def _read_relation(text: str, depth: int) -> Answer | None:
    if not _HAS_RELATION.search(text):
        return None
    marks: list[str] = []

    def is_relation(token: str) -> bool:
        hit = token in {"=", "\\equiv", "\\in", "\\approx", "\\ne", *_RELATIONS}
        if hit:
            marks.append(token)
        return hit

    sides = _split(text, is_relation)
    if not marks or not all(sides):
        return None
    if set(marks) <= {"=", "\\equiv", "\\approx"}:
        # What stands behind "approximately" is a rounding of what stands before it.
        exact = marks.index("\\approx") + 1 if "\\approx" in marks else len(sides)
        if exact == 1 and _NAME.fullmatch(sides[0]) and sides[0] not in _CONSTANTS:
            exact = 2
        return _read_equalities(sides[:exact], text, depth)
    if marks == ["\\in"] and _NAME.fullmatch(sides[0]):
        return _read(sides[1], depth)
    if marks == ["\\ne"] and _VARIABLE.fullmatch(sides[0]):
        left_out = _read(sides[1], depth)
        parts = left_out.parts if left_out.kind in {"list", "set"} else (left_out,)
        return Answer("except", text, parts, sides[0])
    return _read_inequality(sides, marks, text, depth)


def _read_equalities(sides: list[str], text: str, depth: int) -> Answer:
    if len(sides) == 2 and _VARIABLE.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
        sides = sides[::-1]  # 5 = x
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
    source = f"{ends[0]}{sides[0]},{sides[2]}{ends[1]}"
    return Answer("span", source, parts, ends=ends, variable=sides[1])


def _read_union(text: str, depth: int) -> Answer | None:
    if "\\cup" not in text and "\\mathbb" not in text:
        return None
    pieces = _split(text, lambda token: token == "\\cup")
    if len(pieces) == 1 and (match := _SETMINUS.fullmatch(text)):
        return Answer("except", text, _elements(match[1].split(","), depth))
    if len(pieces) < 2 or not all(pieces):
        return None
    return Answer("union", text, tuple(_read(piece, depth) for piece in pieces))


def _read_brackets(text: str, depth: int) -> Answer | None:
    """What one pair of brackets encloses; a pair around a single value is dropped."""
    if text[:1] not in _FIRST_OF_BRACKETS:
        return None
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
        is_dropped = tokens[0] == "(" or (tokens[0] == "[" and _MATRIX.fullmatch(inside.strip()))
        return _read(inside, depth) if is_dropped else None
    ends = "()" if tokens[0] == "\\langle" else tokens[0] + tokens[-1]
    rows = [_read(piece, depth) for piece in pieces]
    if (
        ends == "[]"
        and {row.ends for row in rows} == {"[]"}
        and len({len(r.parts) for r in rows}) == 1
    ):
        # [[1,2],[3,4]]
        cells = tuple(cell for row in rows for cell in row.parts)
        return Answer("matrix", text, cells, ends=f"{len(rows)}x{len(rows[0].parts)}")
    return Answer("span", text, tuple(rows), ends=ends)


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
