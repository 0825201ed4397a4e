"""From a file to checked rows: what the loader of a run does, but going on where it would stop."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luffy_pl.corpus.check.defects import Defect, shorten
from luffy_pl.data.chat import (
    Rendering,
    encode_known,
    strip_think_prefix,
    with_system_prompt,
)
from luffy_pl.data.columns import Question
from luffy_pl.data.columns import read_question as read
from luffy_pl.data.expert_traces import tokenize_traces
from luffy_pl.data.prompts import prompt_of
from luffy_pl.data.source import PromptSource, Understood, begin_reading
from luffy_pl.errors import DataError
from luffy_pl.records import ExpertTrace, Prompt

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


class Reader:
    """One pass over a source; unreadable rows become defects."""

    def __init__(
        self,
        source: PromptSource,
        rendering: Rendering,
        *,
        needs_answer: bool = True,
    ) -> None:
        self.source, self.rendering, self.needs_answer = source, rendering, needs_answer
        self.num_rows = 0
        self.understood: Understood | None = None
        self.defects: list[Defect] = []
        self.first_fix = ""
        """What the first row that cannot be read needs."""

    def rows(self) -> Iterator[CheckedRow]:
        """Every readable row."""
        questions = self._questions()
        while batch := list(itertools.islice(questions, ROWS_PER_BATCH)):
            yield from self._encoded(batch)

    def _questions(self) -> Iterator[Question]:
        source = self.source
        self.understood, rows = begin_reading(source, on_broken_line=self._broken)
        for where, row in rows:
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
        self.first_fix = self.first_fix or error.fix
        got = "" if error.value is None else f", got {error.value!r}"
        self.defects.append(Defect("broken_row", error.where, "", shorten(error.what + got, 160)))

    def _encoded(self, batch: Sequence[Question]) -> Iterator[CheckedRow]:
        tokenizer = self.rendering.tokenizer
        texts = self.rendering.prompts(
            [with_system_prompt(one.messages, self.source.system_prompt) for one in batch],
            places=[one.where for one in batch],
        )
        prompts = encode_known(tokenizer, texts)
        traces = iter(
            tokenize_traces(
                tokenizer,
                [
                    strip_think_prefix(trace, text)
                    for question, text in zip(batch, texts, strict=True)
                    for trace in question.traces
                ],
            )
        )
        for question, text, ids in zip(batch, texts, prompts, strict=True):
            own = tuple(itertools.islice(traces, len(question.traces)))
            if ids is None:
                what = "the tokenizer has no token for a part of the prompt"
                self.defects.append(Defect("unknown_token", question.where, question.id, what))
                continue
            yield CheckedRow(question, text, ids, own)


def question_texts(source: PromptSource) -> Iterator[tuple[str, str]]:
    """(`file:row`, text of the user's messages) of every readable row."""
    # A schema that shuffles options is read for its question alone.
    understood, rows = begin_reading(source, usual_split="test")
    columns = dataclasses.replace(understood.columns, options=None, trace=None)
    for where, row in rows:
        try:
            question = read(row, where=where, schema="plain", columns=columns)
        except DataError:
            continue
        yield where, user_text(question)


def user_text(question: Question) -> str:
    """What the question asks, without system message."""
    return "\n".join(m["content"] for m in question.messages if m["role"] == "user")
