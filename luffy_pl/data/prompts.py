"""Read prompts and their expert traces; count, and name, everything that is left out.

An error names the file and, as in `PromptSource`, the setting: a run has several sources, and
the file tells which of them is meant.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from luffy_pl.data.chat import (
    ConversationFault,
    Rendering,
    TemplateKwargs,
    Tokenizer,
    check_template_kwargs,
    encode_known,
    strip_think_prefix,
    with_chat_template,
    with_system_prompt,
)
from luffy_pl.data.columns import Question, file_row, read_question
from luffy_pl.data.expert_traces import (
    check_trace,
    is_usable,
    tokenize_traces,
    with_logprobs,
)
from luffy_pl.data.load_report import LoadReport, NamedCount
from luffy_pl.data.source import PromptSource, Understood, begin_reading
from luffy_pl.data.tokenizer import stop_token_ids
from luffy_pl.errors import ConfigError, DataError
from luffy_pl.process.garbage import left_alone
from luffy_pl.records import ExpertTrace, Prompt

T = TypeVar("T")
FIXES = {
    "bad_row": "fix the rows",
    "other_source": "correct data_source",
    "prompt_too_long": "raise max_prompt_tokens or data.engine.max_model_len",
    "trace_too_long": "raise data.rollout.max_response_tokens",
    "no_trace": "name the column of the traces in columns.trace, or set require_trace: false",
}
"""What brings prompts back that were dropped, by reason."""

# Tokenised together: enough for the tokenizer to use every core.
ROWS_PER_BATCH = 256


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
    max_model_len: int | None = None,
    beyond_window: Literal["drop", "error"] = "drop",
    chat_template_kwargs: TemplateKwargs | None = None,
) -> PromptSet:
    """Read, check, render and tokenise a data set.

    Args:
        max_response_tokens: limit of an expert trace, EOS included; None reads no traces, as
            evaluation needs none.
        needs_answer: a row without a gold answer is a bad row; a grader that reads none needs none.
        max_model_len: tokens that prompt and answer may have together; None sets no limit.
        beyond_window: what becomes of a prompt that leaves no room for an answer there. An
            evaluation is not to become easier in silence, so it takes `error`.
        chat_template_kwargs: what the chat template is given beside the messages.
    """
    if source.require_trace and max_response_tokens is None:
        raise ConfigError(
            source.path,
            "require_trace is set where no expert traces are read",
            fix="require_trace=false",
        )
    tokenizer = with_chat_template(tokenizer, source.chat_template)
    check_template_kwargs(tokenizer, chat_template_kwargs, where="data.chat_template_kwargs")
    loader = _Loader(
        source,
        tokenizer,
        max_response_tokens,
        needs_answer,
        max_model_len,
        beyond_window,
        chat_template_kwargs,
    )
    with left_alone():
        return loader.load()


@dataclass
class _Loader:
    """One pass over a data set, in stages; its state is the report."""

    source: PromptSource
    tokenizer: Tokenizer
    max_response_tokens: int | None
    needs_answer: bool
    max_model_len: int | None
    beyond_window: Literal["drop", "error"]
    chat_template_kwargs: TemplateKwargs | None
    report: LoadReport = field(default_factory=LoadReport)

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
        understood, rows = begin_reading(
            source, usual_split="test" if self.max_response_tokens is None else "train"
        )
        self.report.understood = understood.lines()
        self._check_options(understood)
        for where, row in rows:
            self.report.rows += 1
            try:
                question = read_question(
                    row,
                    where=where,
                    schema=understood.schema,
                    columns=understood.columns,
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

    def _check_options(self, understood: Understood) -> None:
        if self.source.options_seed is None and understood.schema == "gpqa":
            raise ConfigError(
                self.source.path,
                "options_seed is null, which would leave every right option at A",
                fix="options_seed=0",
            )
        if self.source.options_seed is not None and understood.columns.options is None:
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
        if unique == question.id:
            return question
        self.report.note("repeated_id", question.id)
        return dataclasses.replace(question, id=unique)

    def _prompts(self) -> Iterator[tuple[Question, Prompt]]:
        for batch, texts in self._rendered_batches():
            encoded = encode_known(self.tokenizer, texts)
            for question, text, ids in zip(batch, texts, encoded, strict=True):
                if ids is None:
                    self._skip(unknown_token("prompt", text, where=question.where))
                elif self._fits(question, len(ids)):
                    yield question, prompt_of(question, text=text, token_ids=ids)

    def _rendered_batches(self) -> Iterator[tuple[list[Question], list[str]]]:
        """Questions with their texts; one that the template fails on is a bad row, and taken out.

        Another process renders: it has the next batch while this one is tokenised.
        """
        rendering = Rendering(self.tokenizer, self.chat_template_kwargs or {})

        def render(batch: list[Question]) -> list[str]:
            messages = [with_system_prompt(q.messages, self.source.system_prompt) for q in batch]
            return rendering.prompts(messages, places=[question.where for question in batch])

        with ThreadPoolExecutor(1, thread_name_prefix="render") as ahead:
            begun: deque[tuple[list[Question], Future[list[str]]]] = deque()
            for batch in _batches(self._questions()):
                begun.append((batch, ahead.submit(render, batch)))
                if len(begun) > 1:
                    yield self._finished(*begun.popleft(), render)
            while begun:
                yield self._finished(*begun.popleft(), render)

    def _finished(
        self,
        batch: list[Question],
        rendered: Future[list[str]],
        again: Callable[[list[Question]], list[str]],
    ) -> tuple[list[Question], list[str]]:
        take = rendered.result
        while batch:
            try:
                return batch, take()
            except ConversationFault as fault:
                if fault.number is None:
                    raise
                self._skip(fault)
                del batch[fault.number]
            take = partial(again, batch)
        return [], []

    def _fits(self, question: Question, num_tokens: int) -> bool:
        """Whether the prompt may be used; one that may not is counted, or an error."""
        limit, window = self.source.max_prompt_tokens, self.max_model_len
        if limit is not None and num_tokens > limit:
            self._drop_long(question, num_tokens, limit)
            return False
        if window is None or num_tokens < window:
            return True
        if self.beyond_window == "error":
            raise DataError(
                question.where,
                f"the prompt has {num_tokens} tokens, and with data.engine.max_model_len={window} "
                "no answer fits behind it",
                fix="raise data.engine.max_model_len, or leave the problem out with "
                f"source.max_prompt_tokens: {window - 1}, which is reported",
            )
        self._drop_long(question, num_tokens, window - 1)
        return False

    def _drop_long(self, question: Question, num_tokens: int, limit: int) -> None:
        place = file_row(question.where)
        self.report.drop("prompt_too_long", f"{place} ({num_tokens} tokens, at most {limit} fit)")

    def _with_traces(
        self, prompted: Iterable[tuple[Question, Prompt]]
    ) -> Iterator[tuple[Prompt, tuple[ExpertTrace, ...]]]:
        if self.max_response_tokens is None:
            yield from ((prompt, ()) for _, prompt in prompted)
            return
        stop_ids: list[int] | None = None
        for batch in _batches(prompted):
            texts = [
                strip_think_prefix(text, prompt.text)
                for question, prompt in batch
                for text in question.traces
            ]
            if texts and stop_ids is None:
                stop_ids = stop_token_ids(self.tokenizer)
            tokenized = iter(tokenize_traces(self.tokenizer, texts))
            for question, prompt in batch:
                traces = list(itertools.islice(tokenized, len(question.traces)))
                try:
                    usable = self._usable_traces(
                        traces,
                        question=question,
                        max_response_tokens=self.max_response_tokens,
                        stop_ids=stop_ids or (),
                    )
                except DataError as error:
                    self._skip(error)
                    continue
                if self.source.require_trace and not usable:
                    self.report.drop("no_trace", question.id)
                else:
                    yield prompt, usable

    def _usable_traces(
        self,
        traces: list[ExpertTrace | None],
        *,
        question: Question,
        max_response_tokens: int,
        stop_ids: Sequence[int],
    ) -> tuple[ExpertTrace, ...]:
        where, usable = question.where, []
        for trace, text, logprobs in zip(traces, question.traces, question.logprobs, strict=True):
            if trace is None:
                raise unknown_token("expert trace", text, where=where)
            check_trace(trace, stop_ids=stop_ids, where=where)
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

    def _skip(self, error: DataError | ConversationFault) -> None:
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
                fix="fix them, or max_bad_share="
                f"{math.ceil(100 * bad.count / report.rows) / 100}; "
                f"the first: {bad.first[0]}",
            )
        if report.prompts == 0:
            reasons = ", ".join(f"{tally.count} {name}" for name, tally in report.dropped.items())
            lost = {*report.dropped, *(f"trace_{name}" for name in report.dropped_traces)}
            raise DataError(
                self.source.path,
                f"no prompt is left of {report.rows} rows ({reasons})",
                fix="; ".join(fix for reason, fix in FIXES.items() if reason in lost)
                or "give other rows",
            )


def unknown_token(what: str, text: str, *, where: str) -> DataError:
    """The error of a text that the tokenizer cannot write in its tokens."""
    return DataError(
        where,
        f"the tokenizer has no token for a part of the {what}",
        value=text[-60:],
        fix="remove that part, use another tokenizer, or on_bad_row=skip",
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
        question=question.messages[-1]["content"],
    )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(itertools.islice(items, ROWS_PER_BATCH)):
        yield batch
