"""From the columns of a data set to a question, its gold answer and its expert traces.

Known schemas: the released LUFFY files (those of verl), GSM8K, OpenR1-Math, MMLU-Pro, ARC, GPQA,
Alpaca, and "plain", whose columns carry our own names; `guess.py` says which others they may carry.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, Literal

from luffy_pl.data.chat import Message
from luffy_pl.data.conversation import as_messages
from luffy_pl.data.options import letter_of_label, with_options, with_right_first
from luffy_pl.data.text_lines import DataRow
from luffy_pl.data.values import FIX_ROW, as_text, check_encodable, is_missing, refuse_row
from luffy_pl.errors import ConfigError, DataError

Schema = Literal["auto", "luffy", "gsm8k", "openr1", "mmlu_pro", "arc", "gpqa", "alpaca", "plain"]

GOLD_MARK = "####"
CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True)
class Columns:
    """Which column of a data set holds what, as dotted paths (`reward_model.ground_truth`).

    null takes the column of the schema, or the one that is guessed; "" takes none. A number in a
    path is a place in a list.
    """

    prompt: str | None = None
    """The question: text, or messages with `role` and `content`; a last assistant message is the
    expert trace."""
    answer: str | None = None
    """The gold answer: text or a number; a letter where there are options."""
    options: str | None = None
    """Texts to choose from, written below the question as A) to J)."""
    trace: str | None = None
    """Expert traces: text, a list of texts, or a list of one assistant message; null for none."""
    logprobs: str | None = None
    """The expert's own log-probabilities in nats, one per token and EOS; one list per text where
    `trace` is a list of texts."""
    id: str | None = None
    """Name of the row; `file:row` where there is none."""
    data_source: str | None = None
    """The set that the row is from: chooses its reward and groups its metrics."""


SCHEMAS = {
    "luffy": Columns(
        prompt="prompt",
        answer="reward_model.ground_truth",
        trace="target",
        id="extra_info.index",
        data_source="data_source",
    ),
    "gsm8k": Columns(prompt="question", answer="answer", trace="answer"),
    "openr1": Columns(
        prompt="problem", answer="answer", trace="generations.0", id="uuid", data_source="source"
    ),
    "mmlu_pro": Columns(prompt="question", answer="answer", options="options", id="question_id"),
    "arc": Columns(prompt="question", answer="answerKey", options="choices.text", id="id"),
    # The first of three columns of wrong options.
    "gpqa": Columns(
        prompt="Question", answer="Correct Answer", options="Incorrect Answer 1", id="Record ID"
    ),
    "alpaca": Columns(prompt="instruction", answer="answer", trace="output", id="id"),
    "plain": Columns(
        prompt="prompt",
        answer="answer",
        trace="trace",
        logprobs="logprobs",
        id="id",
        data_source="data_source",
    ),
}


@dataclass(frozen=True)
class Question:
    """One row in our words: checked, not yet rendered or tokenised."""

    where: str
    id: str
    messages: tuple[Message, ...]
    ground_truth: str
    data_source: str
    traces: tuple[str, ...]
    logprobs: tuple[tuple[float, ...] | None, ...]
    answer_was_number: bool
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def detect_schema(row: DataRow) -> Schema:
    """The schema that a data set's first row looks like; "plain" where no other fits."""
    if "prompt" in row and "reward_model" in row:
        return "luffy"
    if "question" in row and GOLD_MARK in str(row.get("answer")):
        return "gsm8k"
    if "problem" in row and "generations" in row:
        return "openr1"
    if "question" in row and "options" in row:
        return "mmlu_pro"
    if "choices" in row and "answerKey" in row:
        return "arc"
    if "Correct Answer" in row and "Incorrect Answer 1" in row:
        return "gpqa"
    if {"instruction", "input", "output"} <= set(row):
        return "alpaca"
    return "plain"


def fill_columns(columns: Columns, *, schema: Schema, first_row: DataRow, where: str) -> Columns:
    """The schema's columns where `columns` names none; what it does name has to exist.

    Args:
        first_row: with the columns of the rows that follow it, where it lacks them.
    """
    named = {field: path for field, path in vars(columns).items() if path is not None}
    for field, path in named.items():
        if path and path not in first_row and path.partition(".")[0] not in first_row:
            raise ConfigError(
                where,
                f"columns.{field} names a column that the first row does not have",
                value=path,
                fix=f"name one of {', '.join(first_row)}",
            )
    return dataclasses.replace(
        SCHEMAS[schema], **{field: path or None for field, path in named.items()}
    )


def read_question(
    row: DataRow,
    *,
    where: str,
    schema: Schema,
    columns: Columns,
    options_seed: int | None = None,
    needs_answer: bool = True,
) -> Question:
    """Read one row, or raise a DataError that names file, row and column.

    Args:
        needs_answer: refuse a row without a gold answer; else its gold is empty.
    """
    found = {name: _find(row, path) for name, path in vars(columns).items()}
    has_answer = needs_answer or not (is_missing(found["answer"]) or found["answer"] == "")
    for name in ("prompt", "answer") if has_answer else ("prompt",):
        if is_missing(found[name]):
            raise DataError(
                where,
                f"{name} is missing or null (column {getattr(columns, name)})",
                fix=f"name its column in columns.{name} (found: {', '.join(row)}), or {FIX_ROW}",
            )
    answer = _as_answer(found["answer"], where) if has_answer else ""
    answer = _by_schema(schema, answer, row=row, found=found, where=where)
    if schema == "alpaca" and columns.prompt == "instruction" and row.get("input"):
        found["prompt"] = f"{found['prompt']}\n\n{row['input']}"
    if columns.options is not None:
        found["prompt"], answer = with_options(
            as_text(found["prompt"], field="prompt", where=where),
            answer,
            options=found["options"],
            seed=options_seed,
            where=where,
        )
    traces = _as_traces(found["trace"], where)
    messages, last_turn = as_messages(found["prompt"], where)
    if last_turn is not None:
        if traces:
            refuse_row(
                where, "prompt ends with an answer, and there is an expert trace", columns.trace
            )
        traces = (last_turn,)
    data_source = _as_name(found["data_source"], field="data_source", where=where)
    beyond = _beyond(row, [path for path in vars(columns).values() if path is not None])
    if beyond:
        check_encodable(beyond, "a further column", where)
    return Question(
        where=where,
        id=_row_id(
            _as_name(found["id"], field="id", where=where), data_source=data_source, where=where
        ),
        messages=messages,
        ground_truth=answer,
        data_source=data_source,
        traces=traces,
        logprobs=_as_logprobs(found["logprobs"], num_traces=len(traces), where=where),
        answer_was_number=has_answer and not isinstance(found["answer"], str),
        columns=beyond,
    )


def _by_schema(
    schema: Schema, answer: str, *, row: DataRow, found: dict[str, Any], where: str
) -> str:
    """The gold answer as a schema writes it; trace and options, if they are its too, to `found`."""
    if schema == "gsm8k":
        answer, found["trace"] = _split_solution(answer, where)
    if schema == "arc":
        answer = letter_of_label(answer, labels=_find(row, "choices.label"), where=where)
    if schema == "gpqa":
        wrong = [row.get(f"Incorrect Answer {number}") for number in (1, 2, 3)]
        found["options"], answer = with_right_first(answer, wrong=wrong, where=where)
    return answer


def _find(row: DataRow, path: str | None) -> Any:
    """The value at a dotted path; None where any part of it is absent."""
    if path is None or path in row:
        return None if path is None else row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _beyond(row: DataRow, paths: Sequence[str]) -> DataRow:
    """What the row holds beside these columns; of a nested one, the parts that are not named."""
    left = dict(row)
    for path in paths:
        top, _, inner = path.partition(".")
        nested = left.get(top)
        if path not in left and isinstance(nested, dict):
            left[top] = _beyond(nested, [inner])
        else:
            left.pop(path if path in left else top, None)
    return left


def _as_answer(value: object, where: str) -> str:
    if isinstance(value, Number) and not isinstance(value, bool):
        return str(value)
    return as_text(value, field="answer", where=where).strip()


def _as_name(value: object, *, field: str, where: str) -> str:
    name = "" if is_missing(value) else str(value)
    check_encodable(name, field, where)
    return name


def _as_traces(value: object, where: str) -> tuple[str, ...]:
    if is_missing(value):
        return ()
    texts: list[Any] = value if isinstance(value, list) else [value]
    if any(isinstance(text, dict) for text in texts):
        roles = [text.get("role") if isinstance(text, dict) else None for text in texts]
        if roles != ["assistant"]:
            refuse_row(where, "expert trace is not one assistant message", roles)
        texts = [texts[0].get("content")]
    return tuple(as_text(text, field="expert trace", where=where) for text in texts)


def _as_logprobs(
    value: object, *, num_traces: int, where: str
) -> tuple[tuple[float, ...] | None, ...]:
    if is_missing(value):
        return (None,) * num_traces
    per_trace = [value]
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        per_trace = value
    if len(per_trace) != num_traces:
        refuse_row(
            where, f"logprobs are of {len(per_trace)} expert traces, not of {num_traces}", None
        )
    return tuple(_as_nats(numbers, where) for numbers in per_trace)


def _as_nats(numbers: object, where: str) -> tuple[float, ...] | None:
    if numbers is None:
        return None
    if not isinstance(numbers, list):
        refuse_row(where, "logprobs is not a list", type(numbers).__name__)
    for number in numbers:
        # Written so that NaN fails too.
        if not (isinstance(number, (int, float)) and -math.inf < number <= 0):
            refuse_row(where, "logprobs are nats, finite and at most 0", number)
    return tuple(float(number) for number in numbers)


def _split_solution(solution: str, where: str) -> tuple[str, str]:
    """Gold answer and worked solution of GSM8K; `<<2*3=6>>` is a note to its calculator."""
    _, mark, gold = solution.rpartition(GOLD_MARK)
    if not mark or not gold.strip():
        refuse_row(where, f"answer has no last line '{GOLD_MARK} N'", solution[-60:])
    return gold.strip(), CALCULATOR_MARK.sub("", solution)


def file_row(where: str) -> str:
    """`file:row` without the folder."""
    return where.replace("\\", "/").rpartition("/")[2]


def _row_id(name: str, *, data_source: str, where: str) -> str:
    if not name:
        # Moving a file must not change the seeds keyed by this id.
        return file_row(where)
    return f"{data_source}/{name}" if data_source else name
