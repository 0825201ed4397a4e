"""From the columns of a data set to a question, its gold answer and its expert traces.

Known schemas: the released LUFFY files (those of verl), GSM8K, OpenR1-Math, MMLU-Pro, ARC, GPQA,
and "plain", whose columns carry our own names.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, Literal, NoReturn

from luffy_pl.data.chat import Message
from luffy_pl.data.options import letter_of_label, with_options, with_right_first
from luffy_pl.data.rows import DataRow
from luffy_pl.errors import ConfigError, DataError

Schema = Literal["auto", "luffy", "gsm8k", "openr1", "mmlu_pro", "arc", "gpqa", "plain"]

GOLD_MARK = "####"
CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
FIX_ROW = "fix the row, or on_bad_row=skip"
MAX_CHARACTERS = 4_000_000
"""Length of one text: about a million tokens. A longer one is a mistake."""


@dataclass(frozen=True)
class Columns:
    """Which column of a data set holds what, as dotted paths (`reward_model.ground_truth`).

    null takes the column of the schema. A number in a path is a place in a list.
    """

    prompt: str | None = None
    """The question: text, or messages with `role` and `content`."""
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
    return "plain"


def fill_columns(columns: Columns, *, schema: Schema, first_row: DataRow, where: str) -> Columns:
    """The schema's columns where `columns` names none; what it does name has to exist."""
    named = {field: path for field, path in vars(columns).items() if path}
    for field, path in named.items():
        if path not in first_row and path.partition(".")[0] not in first_row:
            raise ConfigError(
                where,
                f"columns.{field} names a column that the first row does not have",
                value=path,
                fix=f"name one of {', '.join(first_row)}",
            )
    return dataclasses.replace(SCHEMAS[schema], **named)


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
    has_answer = needs_answer or not (_is_missing(found["answer"]) or found["answer"] == "")
    for name in ("prompt", "answer") if has_answer else ("prompt",):
        if _is_missing(found[name]):
            raise DataError(
                where,
                f"{name} is missing or null (column {getattr(columns, name)})",
                fix=f"name its column in columns.{name} (found: {', '.join(row)}), or {FIX_ROW}",
            )
    answer = _as_answer(found["answer"], where) if has_answer else ""
    if schema == "gsm8k":
        answer, found["trace"] = _split_solution(answer, where)
    if schema == "arc":
        answer = letter_of_label(answer, labels=_find(row, "choices.label"), where=where)
    if schema == "gpqa":
        wrong = [row.get(f"Incorrect Answer {number}") for number in (1, 2, 3)]
        found["options"], answer = with_right_first(answer, wrong=wrong, where=where)
    if columns.options is not None:
        found["prompt"], answer = with_options(
            _as_text(found["prompt"], field="prompt", where=where),
            answer,
            options=found["options"],
            seed=options_seed,
            where=where,
        )
    traces = _as_traces(found["trace"], where)
    data_source = _as_name(found["data_source"], field="data_source", where=where)
    beyond = _beyond(row, [path for path in vars(columns).values() if path is not None])
    _check_encodable(beyond, "a further column", where)
    return Question(
        where=where,
        id=_row_id(
            _as_name(found["id"], field="id", where=where), data_source=data_source, where=where
        ),
        messages=_as_messages(found["prompt"], where),
        ground_truth=answer,
        data_source=data_source,
        traces=traces,
        logprobs=_as_logprobs(found["logprobs"], num_traces=len(traces), where=where),
        answer_was_number=has_answer and not isinstance(found["answer"], str),
        columns=beyond,
    )


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


def _is_missing(value: object) -> bool:
    # pandas writes a missing number as NaN.
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_text(value: object, *, field: str, where: str) -> str:
    if not isinstance(value, str):
        _refuse(where, f"{field} is not text", type(value).__name__)
    if not value.strip():
        _refuse(where, f"{field} is empty", value)
    if len(value) > MAX_CHARACTERS:
        _refuse(
            where,
            f"{field} has {len(value)} characters, more than the {MAX_CHARACTERS} that any model "
            "reads",
            None,
        )
    _check_encodable(value, field, where)
    return value


def _check_encodable(value: object, field: str, where: str) -> None:
    """JSON can write half of a surrogate pair; it is no text, and no file takes it."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        _refuse(where, f"{field} holds half of a surrogate pair, which is not text", value)


def _as_answer(value: object, where: str) -> str:
    if isinstance(value, Number) and not isinstance(value, bool):
        return str(value)
    return _as_text(value, field="answer", where=where).strip()


def _as_name(value: object, *, field: str, where: str) -> str:
    name = "" if _is_missing(value) else str(value)
    _check_encodable(name, field, where)
    return name


def _as_messages(value: object, where: str) -> tuple[Message, ...]:
    if isinstance(value, list):
        messages = tuple(_as_message(message, where) for message in value)
        if not messages or messages[-1]["role"] != "user":
            _refuse(where, "prompt does not end with a user message", [m["role"] for m in messages])
        return messages
    return ({"role": "user", "content": _as_text(value, field="prompt", where=where)},)


def _as_message(value: object, where: str) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        _refuse(where, "prompt holds something that is no message with role and content", value)
    field = f"prompt ({value['role']} message)"
    _check_encodable(value["role"], "the role of a message", where)
    return {
        "role": value["role"],
        "content": _as_text(value.get("content"), field=field, where=where),
    }


def _as_traces(value: object, where: str) -> tuple[str, ...]:
    if _is_missing(value):
        return ()
    texts: list[Any] = value if isinstance(value, list) else [value]
    if any(isinstance(text, dict) for text in texts):
        roles = [text.get("role") if isinstance(text, dict) else None for text in texts]
        if roles != ["assistant"]:
            _refuse(where, "expert trace is not one assistant message", roles)
        texts = [texts[0].get("content")]
    return tuple(_as_text(text, field="expert trace", where=where) for text in texts)


def _as_logprobs(
    value: object, *, num_traces: int, where: str
) -> tuple[tuple[float, ...] | None, ...]:
    if _is_missing(value):
        return (None,) * num_traces
    per_trace = [value]
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        per_trace = value
    if len(per_trace) != num_traces:
        _refuse(where, f"logprobs are of {len(per_trace)} expert traces, not of {num_traces}", None)
    return tuple(_as_nats(numbers, where) for numbers in per_trace)


def _as_nats(numbers: object, where: str) -> tuple[float, ...] | None:
    if numbers is None:
        return None
    if not isinstance(numbers, list):
        _refuse(where, "logprobs is not a list", type(numbers).__name__)
    for number in numbers:
        # Written so that NaN fails too.
        if not (isinstance(number, (int, float)) and -math.inf < number <= 0):
            _refuse(where, "logprobs are nats, finite and at most 0", number)
    return tuple(float(number) for number in numbers)


def _split_solution(solution: str, where: str) -> tuple[str, str]:
    """Gold answer and worked solution of GSM8K; `<<2*3=6>>` is a note to its calculator."""
    _, mark, gold = solution.rpartition(GOLD_MARK)
    if not mark or not gold.strip():
        _refuse(where, f"answer has no last line '{GOLD_MARK} N'", solution[-60:])
    return gold.strip(), CALCULATOR_MARK.sub("", solution)


def file_row(where: str) -> str:
    """`file:row` without the folder."""
    return where.replace("\\", "/").rpartition("/")[2]


def _row_id(name: str, *, data_source: str, where: str) -> str:
    if not name:
        # Moving a file must not change the seeds keyed by this id.
        return file_row(where)
    return f"{data_source}/{name}" if data_source else name


def _refuse(where: str, what: str, value: object) -> NoReturn:
    shown = value if len(repr(value)) <= 60 else repr(value)[:60]
    raise DataError(where, what, value=shown, fix=FIX_ROW)
