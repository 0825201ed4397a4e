"""One row of each public data set as a candidate: problem, gold, traces, what the source says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from luffy_pl.corpus.prepare.recipe import SourceName
from luffy_pl.data.columns import (
    GOLD_MARK,
    SCHEMAS,
    Columns,
    Question,
    detect_schema,
    fill_columns,
    read_question,
)
from luffy_pl.data.text_lines import DataRow
from luffy_pl.reward.extract import extract_answer

# Columns of OpenR1-Math-220k, a flag for each generation.
FLAGS = {"correctness_math_verify": "not_verified", "is_reasoning_complete": "not_complete"}
NO_GOLD = {"", "proof", "notfound"}
"""What NuminaMath-1.5 writes where there is no answer."""


@dataclass(frozen=True)
class Candidate:
    """`refused` holds for each trace why the source itself rules it out, None if it does not."""

    question: Question
    refused: tuple[str | None, ...]


def read_candidate(
    source: SourceName, row: DataRow, *, where: str, columns: Columns
) -> Candidate | None:
    """One row; None where it has no gold.

    Raises:
        DataError: a column is missing, empty or of the wrong type.
    """
    if source == "numina":
        row = with_numina_gold(row)
        if row["answer"] is None:
            return None
    schema = {"openr1": "openr1", "gsm8k": "gsm8k", "numina": "plain"}.get(source)
    named = fill_columns(
        dataclasses.replace(
            Columns(**own_columns(source)), **{k: v for k, v in vars(columns).items() if v}
        ),
        schema=schema or detect_schema(row),  # type: ignore[arg-type]
        first_row=row,
        where=where,
    )
    question = read_question(
        row,
        where=where,
        schema=schema or detect_schema(row),  # type: ignore[arg-type]
        columns=named,
    )
    refused = flagged(row, len(question.traces)) if source == "openr1" else None
    return Candidate(question, refused or (None,) * len(question.traces))


def own_columns(source: SourceName) -> dict[str, str]:
    """Where a source differs from the schema it is read by."""
    if source == "openr1":
        return {"trace": "generations", "answer": str(SCHEMAS["openr1"].answer)}
    if source == "numina":
        return {"prompt": "problem", "trace": "solution", "answer": "answer"}
    return {}


def with_numina_gold(row: DataRow) -> DataRow:
    """NuminaMath-1.5 has the answer in a column, NuminaMath-CoT in the box of its solution."""
    answer: Any = row.get("answer")
    if answer is None:
        solution = row.get("solution")
        text = solution if isinstance(solution, str) else ""
        answer = extract_answer(text, think_end=None, forms=("boxed",)).answer
    usable = isinstance(answer, str) and answer.strip().lower() not in NO_GOLD
    return {**row, "answer": answer if usable else None}


def flagged(row: DataRow, num_traces: int) -> tuple[str | None, ...]:
    """Why the source refuses each trace; a list it lacks, or that is too short, refuses all."""
    reasons = []
    for place in range(num_traces):
        reason = None
        for column, says in FLAGS.items():
            flags = row.get(column)
            if not isinstance(flags, list) or place >= len(flags) or flags[place] is not True:
                reason = reason or says
        reasons.append(reason)
    return tuple(reasons)


def as_thought(solution: str, gold: str) -> str:
    r"""A worked solution as a thought, and the gold in a box behind it."""
    body = solution.rpartition(GOLD_MARK)[0] or solution
    return f"<think>\n{body.strip()}\n</think>\n\nThe answer is \\boxed{{{gold}}}."
