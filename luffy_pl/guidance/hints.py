"""What a hint says: the kind `guidance`, one function a kind.

Such a function gets a `HintRequest` and returns the text of a hint, or None where it knows none.
Where the hint is put, and what becomes of the rows under it, is none of its business
(`guidance/hinter.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from luffy_pl.data.chat import THINK
from luffy_pl.errors import DataError
from luffy_pl.records import ExpertTrace, Prompt, Response
from luffy_pl.registry import register

PIECE = re.compile(r"\\?[^\W\d_]+|\d+(?:[.,]\d+)*|\s+|.", re.DOTALL)
"""A word, a command of LaTeX, a number, a gap, or a sign: what a hint never cuts in two."""


@dataclass(frozen=True)
class HintRequest:
    """What a hint may be made from.

    prompt: the plain one, with the gold answer and the further columns of its row.
    share: how much is to be told, above 0 and at most 1.
    trace: an expert's answer; None where there is none.
    failed: a wrong answer of the policy's own; None before it has given one.
    column: `data.rollout.guidance.column`.
    """

    prompt: Prompt
    share: float
    trace: ExpertTrace | None = None
    failed: Response | None = None
    column: str | None = None


HintFunction = Callable[[HintRequest], str | None]


@register("guidance", "trace")
def trace(request: HintRequest) -> str | None:
    """The beginning of an expert's answer (GHPO, arXiv 2507.10628; POPE, arXiv 2601.18779)."""
    if request.trace is None:
        return None
    return beginning(request.trace.text.lstrip().removeprefix(THINK).lstrip(), request.share)


@register("guidance", "answer")
def answer(request: HintRequest) -> str | None:
    """The gold answer, whatever the share."""
    return request.prompt.ground_truth or None


@register("guidance", "own_failure")
def own_failure(request: HintRequest) -> str | None:
    """A wrong answer of the policy's own, whole (Critique-GRPO, arXiv 2506.03106)."""
    return None if request.failed is None else request.failed.text


@register("guidance", "column")
def column(request: HintRequest) -> str | None:
    """The beginning of a text that the row holds in `guidance.column`."""
    name = request.column or ""
    text = request.prompt.columns.get(name)
    if text is not None and not isinstance(text, str):
        raise DataError(
            f"data.rollout.guidance.column={name}",
            f"is not text in the row of prompt {request.prompt.id!r}",
            value=type(text).__name__,
            fix="name a column of texts; null stands for a row without a hint",
        )
    return None if text is None else beginning(text, request.share)


def beginning(text: str, share: float) -> str:
    """The first floor(share * pieces) words, numbers, gaps and signs of a text."""
    pieces = PIECE.findall(text)
    return "".join(pieces[: int(share * len(pieces) + 1e-9)])
