r"""What the released graders read out of a response, in one pass and without a regular expression.

    luffy_v0  last \boxed{} of the text behind the thinking       luffy_v3  the text behind it
    luffy_v1  the same                                            luffy_v4  the whole text
    luffy_v2  last \boxed{} of the thinking itself                oat       last \boxed{} of v3's
                                                                            or else v4's text

The released reward manager puts `<think>\n` in front of every response but luffy_v4's, so that
of the two tags it asks for only `</think>` can be missing. It takes what stands between the
first `</think>` and the second. luffy_v2 adds an empty thinking part in front of that, which
makes it grade the model's own thoughts: a mistake, kept because numbers depend on it.
"""

from __future__ import annotations

from typing import Literal, get_args

from luffy_pl.reward.extract import Extraction

Released = Literal["luffy_v0", "luffy_v1", "luffy_v2", "luffy_v3", "luffy_v4", "oat"]
RELEASED: tuple[Released, ...] = get_args(Released)

THINK_START, THINK_END = "<think>\n", "</think>"
_BOX = "\\boxed{"
_READS_TEXT = frozenset(["luffy_v3", "luffy_v4"])

_NO_ANSWER = Extraction(None, "no_answer")


def read_response(grader: Released, text: str) -> Extraction:
    """What `grader` compares with the gold: a box's content, or a text for luffy_v3 and v4."""
    part = graded_part(grader, text)
    if part is None:
        return _NO_ANSWER
    answer = part if grader in _READS_TEXT else last_box(part)
    return _NO_ANSWER if answer is None else Extraction(answer, "ok")


def graded_part(grader: Released, text: str) -> str | None:
    """The part of a response that counts, None if its thinking never ends."""
    if grader == "luffy_v4":
        return text
    text = THINK_START + text
    if grader == "luffy_v2":
        text = f"{THINK_START}{THINK_END}\n{text}"
    parts = text.split(THINK_END, 2)
    if len(parts) > 1:
        return parts[1]
    return text if grader == "oat" else None


def read_gold(grader: Released, gold: str) -> str | None:
    r"""What answers are compared with: a box's content, if any; None: nothing can equal it."""
    if grader not in _READS_TEXT and "\\boxed" in gold:
        return last_box(gold)
    return gold or None


def last_box(text: str) -> str | None:
    r"""Content of the last `\boxed`, None if that one does not open with `{` or never closes.

    Every brace counts, also one behind a backslash.
    """
    start = text.rfind("\\boxed")
    if start < 0 or not text.startswith(_BOX, start):
        return None
    depth, first = 0, start + len(_BOX) - 1
    for position in range(first, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[first + 1 : position]
    return None
