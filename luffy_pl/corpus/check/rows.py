"""From a file to checked rows: what the loader of a run does, but going on where it would stop."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luffy_pl.corpus.check.defects import Defect, shorten
from luffy_pl.data.chat import encode, render_prompt, strip_think_prefix, with_system_prompt
from luffy_pl.data.columns import Columns, Question, Schema, detect_schema, fill_columns
from luffy_pl.data.columns import read_question as read
from luffy_pl.data.expert_traces import tokenize_traces
from luffy_pl.data.prompts import PromptSource, prompt_of
from luffy_pl.data.rows import DataRow, read_rows
from luffy_pl.errors import DataError, LuffyError
from luffy_pl.records import ExpertTrace, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class CheckedRow:
    """A row as a run would see it.

    `traces` are encoded, without the `<think>` that the prompt brings; None where the tokenizer
    has no token for a part of the text.
    """

    question: Question
    prompt_text: str
    prompt_ids: tuple[int, ...]
    traces: tuple[ExpertTrace | None, ...]

    @property
    def prompt(self) -> Prompt:
        """The prompt that a grader gets."""
        return prompt_of(self.question, text=self.prompt_text, token_ids=self.prompt_ids)


@dataclass(frozen=True)
class Understood:
    """How the columns were read."""

    schema: Schema
    columns: Columns


class Reader:
    """One pass over a source; unreadable rows become defects."""

    def __init__(
        self, source: PromptSource, tokenizer: PreTrainedTokenizerBase, *, needs_answer: bool = True
    ) -> None:
        self.source, self.tokenizer, self.needs_answer = source, tokenizer, needs_answer
        self.num_rows = 0
        self.understood: Understood | None = None
        self.defects: list[Defect] = []

    def rows(self) -> Iterator[CheckedRow]:
        """Every readable row."""
        questions = self._questions()
        while batch := list(itertools.islice(questions, ROWS_PER_BATCH)):
            yield from self._encoded(batch)

    def _questions(self) -> Iterator[Question]:
        source = self.source
        found = read_rows(source.path, split=source.split, on_broken_line=self._broken)
        rows = itertools.islice(found, source.limit)
        first = next(rows)
        self.understood = understand(source, first)
        for where, row in itertools.chain([first], rows):
            self.num_rows += 1
            try:
                question = read(
                    row,
                    where=where,
                    schema=self.understood.schema,
                    columns=self.understood.columns,
                    options_seed=source.options_seed,
                    needs_answer=self.needs_answer,
                )
            except DataError as error:
                self._refuse(error)
                continue
            if source.data_source in (None, question.data_source):
                yield question

    def _broken(self, error: DataError) -> None:
        self.num_rows += 1
        self._refuse(error)

    def _refuse(self, error: DataError) -> None:
        got = "" if error.value is None else f", got {error.value!r}"
        self.defects.append(Defect("broken_row", error.where, "", shorten(error.what + got, 160)))

    def _encoded(self, batch: Sequence[Question]) -> Iterator[CheckedRow]:
        texts = [
            render_prompt(
                self.tokenizer, with_system_prompt(question.messages, self.source.system_prompt)
            )
            for question in batch
        ]
        prompts = self._encode_all(texts)
        traces = self._tokenize_all(
            strip_think_prefix(trace, text)
            for question, text in zip(batch, texts, strict=True)
            for trace in question.traces
        )
        for question, text, ids in zip(batch, texts, prompts, strict=True):
            own = tuple(itertools.islice(traces, len(question.traces)))
            if ids is None:
                what = "the tokenizer has no token for a part of the prompt"
                self.defects.append(Defect("unknown_token", question.where, question.id, what))
                continue
            yield CheckedRow(question, text, ids, own)

    def _encode_all(self, texts: Sequence[str]) -> list[tuple[int, ...] | None]:
        try:
            return list(encode(self.tokenizer, texts))
        except Exception:  # noqa: BLE001  tokenizers raises Exception itself
            return [self._encode_one(text) for text in texts]

    def _encode_one(self, text: str) -> tuple[int, ...] | None:
        try:
            return encode(self.tokenizer, [text])[0]
        except Exception:  # noqa: BLE001  tokenizers raises Exception itself
            return None

    def _tokenize_all(self, texts: Iterable[str]) -> Iterator[ExpertTrace | None]:
        texts = list(texts)
        try:
            return iter(tokenize_traces(self.tokenizer, texts))
        except LuffyError:
            raise
        except Exception:  # noqa: BLE001  tokenizers raises Exception itself
            ids = [self._encode_one(text) for text in texts]
            return iter(
                [
                    None if i is None else tokenize_traces(self.tokenizer, [text])[0]
                    for i, text in zip(ids, texts, strict=True)
                ]
            )


def understand(source: PromptSource, first: tuple[str, DataRow]) -> Understood:
    """Schema and columns, as the loader takes them."""
    where, row = first
    schema = detect_schema(row) if source.schema == "auto" else source.schema
    return Understood(
        schema, fill_columns(source.columns, schema=schema, first_row=row, where=where)
    )


def question_texts(source: PromptSource) -> Iterator[tuple[str, str]]:
    """(`file:row`, text of the user's messages) of every readable row."""
    # A schema that shuffles options is read for its question alone.
    rows = read_rows(source.path, split=source.split)
    first = next(rows)
    understood = understand(source, first)
    columns = dataclasses.replace(understood.columns, options=None, trace=None)
    for where, row in itertools.chain([first], rows):
        try:
            question = read(row, where=where, schema="plain", columns=columns)
        except DataError:
            continue
        yield where, user_text(question)


def user_text(question: Question) -> str:
    """What the question asks, without system message."""
    return "\n".join(m["content"] for m in question.messages if m["role"] == "user")
