r"""The answer inside a model's text, found in one pass.

No regular expression here can backtrack: a hostile text of n characters costs O(n).
One answer is taken from a text, never several to choose from: the last box counts, and boxes
that stand in a row ("\boxed{1} or \boxed{2}") are one answer with several elements. Where both a
box and a choice are asked for, `ANSWER: C` counts unless a later box holds a letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from luffy_pl.answer.choice import Claim, read_claim
from luffy_pl.reward.choices import FoundChoice, labelled_choice, unlabelled_choice

AnswerForm = Literal["boxed", "hash", "choice", "final"]
"""boxed: `\\boxed{x}`. hash: `#### x` (GSM8K). choice: `ANSWER: C`, `the answer is (C)`, a last
line `C`. final: `Final answer: x`."""

ExtractionStatus = Literal["ok", "no_answer", "truncated"]

LONGEST_GAP = 60
"""Characters between two boxes of one row: room for ` \\text{ or } $x_1 = `."""

_BRACE = re.compile(
    r"\\(?:boxed|fbox)\s*(?:\{|(?P<bare>\d+(?:\.\d+)?|[A-J](?![A-Za-z])))|\\.|[{}]", re.DOTALL
)
_GAP = re.compile(
    r"(?:[\s$*,;&]|\\[()\[\],;!]|\\q?quad|\\text\s?\{ ?(?:and|or) ?\}|and\b|or\b"
    r"|[A-Za-z](?:_\{?\d\}?)?\s?=)*"
)
_FINAL = re.compile(r"(?:\banswer(?: is)?[ \t]?:|\bfinal answer is\b|\bthe answer is\b)", re.I)
_IN_DOLLARS = re.compile(r"\$([^$]+)\$")
_MINERVA_END = ". I hope it is correct"


@dataclass(frozen=True)
class Extraction:
    """`answer` is None unless `status` is ok; truncated: the last box was never closed."""

    answer: str | None
    status: ExtractionStatus


@dataclass(frozen=True)
class _Box:
    start: int
    end: int
    content: str


_NO_ANSWER = Extraction(None, "no_answer")
_TRUNCATED = Extraction(None, "truncated")


def extract_answer(
    text: str,
    *,
    think_end: str | None = "</think>",
    forms: tuple[AnswerForm, ...] = ("boxed",),
) -> Extraction:
    """The answer after the last `think_end`, in the first of `forms` that is present.

    A text that never closes its thinking has no answer: whatever it boxed there was a draft.
    """
    if think_end is not None:
        _, closed, text = text.rpartition(think_end)
        if not closed:
            return _NO_ANSWER
    if "choice" in forms and "boxed" in forms[: forms.index("choice")]:
        said = labelled_choice(text)
        if said is not None and _is_behind_boxes(text, said):
            return _found(said.letter)
    for form in forms:
        found = _EXTRACTORS[form](text)
        if found.status != "no_answer":
            return found
    return _NO_ANSWER


def _is_behind_boxes(text: str, said: FoundChoice) -> bool:
    """Whether no box behind the claim, and no box at all that holds a letter, says it better."""
    boxes, unclosed = _scan_boxes(text)
    last = max([box.start for box in boxes if box.content] + [unclosed or 0], default=0)
    if last < said.start:
        return True
    claim = read_claim(boxes[-1].content) if boxes else Claim(several=unclosed is not None)
    return not (claim.letter or claim.several or unclosed is not None)


def _boxed(text: str) -> Extraction:
    boxes, last_unclosed = _scan_boxes(text)
    filled = [box for box in boxes if box.content]
    if last_unclosed is not None and (not filled or last_unclosed > filled[-1].start):
        return _TRUNCATED
    if not filled:
        return _NO_ANSWER
    row = [filled[-1]]
    for box in reversed(filled[:-1]):
        if not _is_gap(text[box.end : row[-1].start]):
            break
        row.append(box)
    # A dict keeps the order and drops repetitions: a box said twice is one answer.
    contents = dict.fromkeys(box.content for box in reversed(row))
    return Extraction(", ".join(contents), "ok")


def _scan_boxes(text: str) -> tuple[list[_Box], int | None]:
    """Closed boxes in order of their start, and where the last unclosed one starts."""
    opened: list[tuple[int, int, bool]] = []  # start, start of content, is a box
    closed: list[_Box] = []
    for match in _BRACE.finditer(text):
        token = match.group()
        if token == "{":
            opened.append((match.start(), match.end(), False))
        elif token == "}":
            if opened:
                start, content, is_box = opened.pop()
                if is_box:
                    # Boxes inside this one belong to it.
                    while closed and closed[-1].start > start:
                        closed.pop()
                    closed.append(_Box(start, match.end(), text[content : match.start()].strip()))
        elif match["bare"]:
            closed.append(_Box(match.start(), match.end(), match["bare"]))
        elif token.endswith("{") and len(token) > 2:
            opened.append((match.start(), match.end(), True))
    unclosed = [start for start, _, is_box in opened if is_box]
    return closed, unclosed[-1] if unclosed else None


def _is_gap(between: str) -> bool:
    return len(between) <= LONGEST_GAP and _GAP.fullmatch(between) is not None


def _hash(text: str) -> Extraction:
    lines = [line for line in text.splitlines() if line.startswith("####")]
    return _found(lines[-1].lstrip("#")) if lines else _NO_ANSWER


def _choice(text: str) -> Extraction:
    said = labelled_choice(text) or unlabelled_choice(text)
    return _found(said.letter) if said is not None else _NO_ANSWER


def _final(text: str) -> Extraction:
    ends = [match.end() for match in _FINAL.finditer(text)]
    if not ends:
        return _NO_ANSWER
    line = text[ends[-1] :].lstrip(" \t*:\n").partition("\n")[0].partition(_MINERVA_END)[0]
    formula = _IN_DOLLARS.match(line)
    return _found(formula[1] if formula else line.strip(" \t*."))


def _found(answer: str) -> Extraction:
    answer = answer.strip()
    return Extraction(answer, "ok") if answer else _NO_ANSWER


_EXTRACTORS: dict[AnswerForm, Callable[[str], Extraction]] = {
    "boxed": _boxed,
    "hash": _hash,
    "choice": _choice,
    "final": _final,
}
