"""What goes to a teacher and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from luffy_pl.data.columns import Question


@dataclass(frozen=True)
class TeacherAnswer:
    """One sample.

    `text` is what a student is to write, from `<think>` on where the teacher thinks, without EOS.
    `token_ids` are the sampled ones, EOS included, and `logprobs` their log-probabilities in nats
    at the sampling temperature; None where the teacher does not tell.
    """

    text: str
    is_complete: bool
    num_tokens: int
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Answered:
    """All samples of one prompt."""

    question: Question
    answers: tuple[TeacherAnswer, ...]
    num_prompt_tokens: int


class Teacher(Protocol):
    """Answers questions in the order they are given."""

    def answer(self, questions: Sequence[Question]) -> Iterator[Answered]:
        """Some at a time: what has been yielded is safe to write down."""
        ...
