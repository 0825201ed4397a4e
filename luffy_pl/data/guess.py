"""Which column holds what, where nobody says it and no schema fits: guessed by the usual names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from luffy_pl.data.columns import SCHEMAS, Columns, Schema
from luffy_pl.data.conversation import ends_with_answer

NAMES = {
    "prompt": ("prompt", "question", "problem", "instruction", "query", "messages",
               "conversations", "conversation", "task", "input"),
    "answer": ("answer", "final_answer", "expected_answer", "correct_answer", "gold",
               "gold_answer", "ground_truth", "reference_answer", "reference", "target", "label",
               "result", "solution"),
    "trace": ("trace", "response", "completion", "generation", "output", "solution",
              "worked_solution", "rationale", "chain_of_thought", "cot"),
}  # fmt: skip
"""By what is looked for, the usual names in the order in which they are tried."""
GUESSED: tuple[Schema, ...] = ("plain", "alpaca")
"""Schemas whose missing columns are guessed."""
SHORT = 100
"""Characters of a solution that may be an answer; a longer one is worked out."""


def guess_columns(
    columns: Columns, row: Mapping[str, Any], *, schema: Schema, with_traces: bool
) -> Columns:
    """The columns with what they leave open filled in; a column is used once.

    Args:
        columns: those that somebody named; null is open, "" is none.
        row: the first row, with the columns of those that follow it.
        schema: one of GUESSED; what it finds by its own names is not guessed.
        with_traces: look for expert traces too.
    """
    by_name = {str(name).strip().lower(): name for name in reversed(list(row))}
    taken = {path for path in vars(columns).values() if path}
    found: dict[str, str] = {}
    for field, names in NAMES.items():
        if getattr(columns, field) is not None or (field == "trace" and not with_traces):
            continue
        if (own := getattr(SCHEMAS[schema], field)) in row and own not in taken:
            found[field] = own
            taken.add(own)
            continue
        prompt = columns.prompt or found.get("prompt")
        if field == "trace" and prompt and ends_with_answer(row.get(prompt)):
            continue
        for name in names:
            column = by_name.get(name)
            if column is not None and column not in taken and _may_be(field, name, row[column]):
                found[field] = column
                taken.add(column)
                break
    return dataclasses.replace(columns, **found)


def _may_be(field: str, name: str, value: object) -> bool:
    """Whether a value is of the kind that is looked for."""
    if field == "answer" and name == "solution":
        text = str(value)
        return len(text) <= SHORT and "\n" not in text and "\\boxed" not in text
    return field != "answer" or not isinstance(value, list | dict)
