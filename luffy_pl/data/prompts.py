"""Read prompts and their expert traces; count, and name, everything that is left out.

An error names the file and, as in `PromptSource`, the setting: a run has several sources, and
the file tells which of them is meant.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.data.chat import (
    Tokenizer,
    encode,
    render_prompt,
    strip_think_prefix,
    with_chat_template,
    with_system_prompt,
)
from luffy_pl.data.columns import (
    Columns,
    Question,
    Schema,
    detect_schema,
    fill_columns,
    read_question,
)
from luffy_pl.data.expert_traces import (
    TooLong,
    check_trace,
    is_usable,
    tokenize_traces,
    with_logprobs,
)
from luffy_pl.data.rows import read_rows
from luffy_pl.errors import ConfigError, DataError
from luffy_pl.records import ExpertTrace, Prompt

T = TypeVar("T")

# Tokenised together: enough for the tokenizer to use every core.
ROWS_PER_BATCH = 256
NUM_NAMED = 5


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from and which of them are used."""

    path: str
    """JSON Lines or Parquet file, or a hub data set as `name` or `name:configuration`."""
    split: str | None = None
    """Split of a hub data set; a file has none."""
    schema: Schema = "auto"
    """How columns are named; auto looks at the first row."""
    columns: Columns = field(default_factory=Columns)
    """Columns that differ from the schema's."""
    data_source: str | None = None
    """Only rows of this source, as the column `data_source` has it; null takes all."""
    options_seed: int | None = bounded(None, at_least=0)
    """Shuffles the options of each question by this seed; null keeps their order."""
    system_prompt: str | None = None
    """Replaces the system message of every row; null keeps the row's own, "" drops it."""
    chat_template: str | None = None
    """Jinja file that replaces the tokenizer's chat template."""
    max_prompt_tokens: int | None = bounded(None, at_least=1, at_most=1e9)
    """A longer prompt is dropped, never cut; null sets no limit."""
    require_trace: bool = False
    """Drop prompts that have no usable expert trace."""
    too_long_trace: TooLong = "drop"
    """What becomes of an expert trace longer than a response may be; none is ever cut."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What becomes of a prompt whose text was read before; counted either way."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used. A broken line of JSON is always an error."""
    max_bad_share: float = bounded(0.005, at_least=0, at_most=1)
    """Share of rows that may be skipped before the whole file is refused."""
    limit: int | None = bounded(None, at_least=1)
    """Rows to read from the start; null reads all."""

    def __post_init__(self) -> None:
        try:
            check_bounds(self)
        except ConfigError as error:  # which of several sources it is, only the path says
            what = f"{error.where} {error.what}"
            raise ConfigError(self.path, what, value=error.value, fix=error.fix) from None


@dataclass
class NamedCount:
    """How many there were, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass
class LoadReport:
    """What became of the rows: `rows` = `prompts` + all that `dropped` counts.

    dropped: rows, by reason: bad_row, other_source, prompt_too_long, no_trace,
        duplicate_prompt.
    dropped_traces: expert traces, by reason: too_long.
    noted: kept and worth knowing: duplicate_prompt, repeated_id, number_as_answer.
    """

    rows: int = 0
    prompts: int = 0
    traces: int = 0
    dropped: dict[str, NamedCount] = field(default_factory=dict)
    dropped_traces: dict[str, NamedCount] = field(default_factory=dict)
    noted: dict[str, NamedCount] = field(default_factory=dict)

    def drop(self, reason: str, name: str) -> None:
        """Count a row that is left out."""
        _count(self.dropped, reason, name)

    def drop_trace(self, reason: str, name: str) -> None:
        """Count an expert trace that is left out."""
        _count(self.dropped_traces, reason, name)

    def note(self, what: str, name: str) -> None:
        """Count something that is kept."""
        _count(self.noted, what, name)

    def as_dict(self) -> dict[str, Any]:
        """For data_report.json."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """For the terminal: the totals, then a line for each thing out of the ordinary."""
        lines = [f"{self.rows} rows: {self.prompts} prompts, {self.traces} expert traces"]
        for title, tallies in (
            ("dropped", self.dropped),
            ("expert traces dropped", self.dropped_traces),
            ("kept, but noted", self.noted),
        ):
            for reason, tally in tallies.items():
                lines.append(f"{title}: {tally.count} {reason}, first {', '.join(tally.first)}")
        return lines


@dataclass(frozen=True)
class PromptSet:
    """Prompts in the order of the data set, and their expert traces by prompt id."""

    prompts: tuple[Prompt, ...]
    traces: dict[str, tuple[ExpertTrace, ...]]
    report: LoadReport


def load_prompts(
    source: PromptSource,
    tokenizer: Tokenizer,
    *,
    max_response_tokens: int | None = None,
    needs_answer: bool = True,
) -> PromptSet:
    """Read, check, render and tokenise a data set.

    Args:
        max_response_tokens: limit of an expert trace, EOS included; None reads no traces, as
            evaluation needs none.
        needs_answer: a row without a gold answer is a bad row; a grader that reads none needs none.
    """
    if source.require_trace and max_response_tokens is None:
        raise ConfigError(
            source.path,
            "require_trace is set where no expert traces are read",
            fix="require_trace=false",
        )
    tokenizer = with_chat_template(tokenizer, source.chat_template)
    return _Loader(source, tokenizer, max_response_tokens, needs_answer).load()


class _Loader:
    """One pass over a data set, in stages; its state is the report."""

    def __init__(
        self,
        source: PromptSource,
        tokenizer: Tokenizer,
        max_response_tokens: int | None,
        needs_answer: bool,
    ) -> None:
        self.needs_answer = needs_answer
        self.source = source
        self.tokenizer = tokenizer
        self.max_response_tokens = max_response_tokens
        self.report = LoadReport()

    def load(self) -> PromptSet:
        prompts: list[Prompt] = []
        traces: dict[str, tuple[ExpertTrace, ...]] = {}
        for prompt, of_prompt in self._without_duplicates(self._with_traces(self._prompts())):
            prompts.append(prompt)
            if of_prompt:
                traces[prompt.id] = of_prompt
        self.report.prompts = len(prompts)
        self.report.traces = sum(len(of_prompt) for of_prompt in traces.values())
        self._check_report()
        return PromptSet(prompts=tuple(prompts), traces=traces, report=self.report)

    def _questions(self) -> Iterator[Question]:
        source, ids = self.source, Counter[str]()
        rows = itertools.islice(read_rows(source.path, split=source.split), source.limit)
        first = next(rows)
        schema = detect_schema(first[1]) if source.schema == "auto" else source.schema
        columns = fill_columns(source.columns, schema=schema, first_row=first[1], where=first[0])
        self._check_options(schema, columns)
        for where, row in itertools.chain([first], rows):
            self.report.rows += 1
            try:
                question = read_question(
                    row,
                    where=where,
                    schema=schema,
                    columns=columns,
                    options_seed=source.options_seed,
                    needs_answer=self.needs_answer,
                )
            except DataError as error:
                self._skip(error)
                continue
            if source.data_source not in (None, question.data_source):
                self.report.drop("other_source", question.id)
                continue
            if question.answer_was_number:
                self.report.note("number_as_answer", question.id)
            yield self._with_unique_id(question, ids)

    def _check_options(self, schema: Schema, columns: Columns) -> None:
        if self.source.options_seed is None and schema == "gpqa":
            raise ConfigError(
                self.source.path,
                "options_seed is null, which would leave every right option at A",
                fix="options_seed=0",
            )
        if self.source.options_seed is not None and columns.options is None:
            raise ConfigError(
                self.source.path,
                "options_seed is set where no column holds options",
                fix="name it in columns.options, or options_seed=null",
            )

    def _with_unique_id(self, question: Question, ids: Counter[str]) -> Question:
        """Number the repetitions of an id in the order of the rows: `7`, `7#2`, `7#3`.

        The id keys sampling seeds: two prompts of one id would get the same rollouts.
        """
        unique = question.id
        while unique in ids:
            ids[question.id] += 1
            unique = f"{question.id}#{ids[question.id]}"
        ids[unique] = 1
        if unique != question.id:
            self.report.note("repeated_id", question.id)
        return dataclasses.replace(question, id=unique)

    def _prompts(self) -> Iterator[tuple[Question, Prompt]]:
        limit = self.source.max_prompt_tokens
        for batch in _batches(self._questions()):
            texts = [self._render(question) for question in batch]
            for question, text, ids in zip(
                batch, texts, encode(self.tokenizer, texts), strict=True
            ):
                if limit is not None and len(ids) > limit:
                    self.report.drop("prompt_too_long", question.id)
                else:
                    yield question, prompt_of(question, text=text, token_ids=ids)

    def _render(self, question: Question) -> str:
        messages = with_system_prompt(question.messages, self.source.system_prompt)
        return render_prompt(self.tokenizer, messages)

    def _with_traces(
        self, prompted: Iterable[tuple[Question, Prompt]]
    ) -> Iterator[tuple[Prompt, tuple[ExpertTrace, ...]]]:
        if self.max_response_tokens is None:
            yield from ((prompt, ()) for _, prompt in prompted)
            return
        for batch in _batches(prompted):
            texts = [
                strip_think_prefix(text, prompt.text)
                for question, prompt in batch
                for text in question.traces
            ]
            tokenized = iter(tokenize_traces(self.tokenizer, texts))
            for question, prompt in batch:
                traces = list(itertools.islice(tokenized, len(question.traces)))
                try:
                    usable = self._usable_traces(
                        traces, question=question, max_response_tokens=self.max_response_tokens
                    )
                except DataError as error:
                    self._skip(error)
                    continue
                if self.source.require_trace and not usable:
                    self.report.drop("no_trace", question.id)
                else:
                    yield prompt, usable

    def _usable_traces(
        self, traces: list[ExpertTrace], *, question: Question, max_response_tokens: int
    ) -> tuple[ExpertTrace, ...]:
        where, usable = question.where, []
        for trace, logprobs in zip(traces, question.logprobs, strict=True):
            check_trace(trace, where=where)
            if is_usable(
                trace,
                max_response_tokens=max_response_tokens,
                too_long=self.source.too_long_trace,
                where=where,
            ):
                usable.append(with_logprobs(trace, logprobs, where=where))
            else:
                self.report.drop_trace("too_long", question.id)
        return tuple(usable)

    def _without_duplicates(
        self, complete: Iterable[tuple[Prompt, tuple[ExpertTrace, ...]]]
    ) -> Iterator[tuple[Prompt, tuple[ExpertTrace, ...]]]:
        seen: set[str] = set()
        for prompt, traces in complete:
            if prompt.text in seen and self.source.duplicates == "drop":
                self.report.drop("duplicate_prompt", prompt.id)
                continue
            if prompt.text in seen:
                self.report.note("duplicate_prompt", prompt.id)
            seen.add(prompt.text)
            yield prompt, traces

    def _skip(self, error: DataError) -> None:
        if self.source.on_bad_row == "error":
            raise error
        self.report.drop("bad_row", str(error))

    def _check_report(self) -> None:
        report, share = self.report, self.source.max_bad_share
        bad = report.dropped.get("bad_row", NamedCount())
        if bad.count > share * report.rows:
            raise DataError(
                self.source.path,
                f"{bad.count} of {report.rows} rows are bad, more than max_bad_share={share}",
                fix=f"mend them, or raise the share; the first: {bad.first[0]}",
            )
        if report.prompts == 0:
            reasons = ", ".join(f"{tally.count} {name}" for name, tally in report.dropped.items())
            raise DataError(
                self.source.path,
                f"no prompt is left of {report.rows} rows ({reasons})",
                fix="raise max_prompt_tokens, relax require_trace, or correct data_source",
            )


def prompt_of(question: Question, *, text: str, token_ids: tuple[int, ...]) -> Prompt:
    """The question as the model sees it."""
    return Prompt(
        id=question.id,
        text=text,
        token_ids=token_ids,
        ground_truth=question.ground_truth,
        data_source=question.data_source,
        columns=question.columns,
    )


def _count(tallies: dict[str, NamedCount], what: str, name: str) -> None:
    tally = tallies.setdefault(what, NamedCount())
    tally.count += 1
    if len(tally.first) < NUM_NAMED:
        tally.first.append(name)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(itertools.islice(items, ROWS_PER_BATCH)):
        yield batch
