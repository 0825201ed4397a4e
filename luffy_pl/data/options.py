"""The options of a multiple-choice question: written below it with letters, shuffled if asked."""

from __future__ import annotations

from typing import NoReturn

from luffy_pl.data.seeds import keyed_order
from luffy_pl.errors import DataError

LETTERS = "ABCDEFGHIJ"
"""As many as the verifier reads."""


def with_options(
    question: str, gold: str, *, options: object, seed: int | None, where: str
) -> tuple[str, str]:
    """The question with its lettered options, and the letter of the right one.

    Args:
        gold: letter of the right option, in the order given.
        options: list of texts.
        seed: shuffles them, each question in its own way; None keeps their order.
    """
    if not isinstance(options, list) or not all(isinstance(text, str) for text in options):
        _refuse(where, "options are not a list of texts", type(options).__name__)
    if not 2 <= len(options) <= len(LETTERS):
        _refuse(where, f"a question has 2 to {len(LETTERS)} options", len(options))
    if gold not in list(LETTERS[: len(options)]):
        _refuse(where, f"answer is not one of the letters {LETTERS[: len(options)]}", gold)
    order = list(range(len(options)))
    if seed is not None:
        order = keyed_order(len(options), "options", seed, question)
    lines = [f"{letter}) {options[place]}" for letter, place in zip(LETTERS, order, strict=False)]
    return "\n".join([question, "", *lines]), LETTERS[order.index(LETTERS.index(gold))]


def letter_of_label(key: str, *, labels: object, where: str) -> str:
    """The letter of the right option of ARC, some of whose questions label theirs 1 to 4."""
    if not isinstance(labels, list) or len(labels) > len(LETTERS):
        _refuse(where, f"labels are not a list of at most {len(LETTERS)}", type(labels).__name__)
    if labels.count(key) != 1:
        _refuse(where, f"answer is not one of the labels {', '.join(map(str, labels))}", key)
    return LETTERS[labels.index(key)]


def with_right_first(right: str, *, wrong: list[object], where: str) -> tuple[list[str], str]:
    """Options of GPQA, which has no order of its own, and the letter of the right one.

    They end in blank space now and then, the right one oftener: that would give it away.
    """
    texts = [text.strip() for text in (right, *wrong) if isinstance(text, str) and text.strip()]
    if len(texts) != 1 + len(wrong):
        _refuse(where, f"a question has {len(wrong)} wrong options of text", len(texts) - 1)
    return texts, LETTERS[0]


def _refuse(where: str, what: str, value: object) -> NoReturn:
    raise DataError(where, what, value=value, fix="fix the row, or name the columns in columns")
