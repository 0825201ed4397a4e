"""A teacher in this process, by the engines of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luffy_pl.data.chat import (
    THINK,
    Rendering,
    check_template_kwargs,
    encode_known,
    with_chat_template,
    with_system_prompt,
)
from luffy_pl.data.columns import Question
from luffy_pl.data.prompts import unknown_token
from luffy_pl.data.rendering import RENDERER
from luffy_pl.data.seeds import keyed_seed
from luffy_pl.data.source import PromptSource
from luffy_pl.data.tokenizer import load_tokenizer, longest_context, stop_token_ids
from luffy_pl.errors import DataError
from luffy_pl.records import Completion
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.start import start_engine
from luffy_pl.traces.answer import Answered, TeacherAnswer
from luffy_pl.traces.settings import TeacherConfig


class LocalTeacher:
    """See `Teacher`."""

    def __init__(self, config: TeacherConfig, engine: EngineConfig, source: PromptSource) -> None:
        self.config, self.source = config, source
        self.tokenizer = with_chat_template(load_tokenizer(config.model), source.chat_template)
        check_template_kwargs(
            self.tokenizer, config.chat_template_kwargs, where="teacher.chat_template_kwargs"
        )
        self.max_model_len = engine.max_model_len or longest_context(config.model)
        self.stop_ids = stop_token_ids(self.tokenizer)
        self.engine = start_engine(config.model, engine, stop_token_ids=self.stop_ids)

    def answer(self, questions: Sequence[Question]) -> Iterator[Answered]:
        """A batch of `concurrency` prompts at a time."""
        prompts = self._prompts(questions)
        for start in range(0, len(questions), self.config.concurrency):
            batch = slice(start, start + self.config.concurrency)
            yield from self._batch(questions[batch], prompts[batch])

    def _prompts(self, questions: Sequence[Question]) -> list[tuple[str, tuple[int, ...]]]:
        """Text and tokens of every prompt: what is wrong with one is said before any is asked."""
        texts = Rendering(self.tokenizer, self.config.chat_template_kwargs or {}).prompts(
            [with_system_prompt(one.messages, self.source.system_prompt) for one in questions],
            places=[one.where for one in questions],
        )
        RENDERER.close()
        return [
            (text, self._checked(question, text, ids))
            for question, text, ids in zip(
                questions, texts, encode_known(self.tokenizer, texts), strict=True
            )
        ]

    def _batch(
        self, questions: Sequence[Question], prompts: Sequence[tuple[str, tuple[int, ...]]]
    ) -> Iterator[Answered]:
        config = self.config
        requests = [
            Request(
                ids,
                # Keyed by the row: a resumed file holds the answers it would have held.
                tuple(
                    keyed_seed(config.seed, "teacher", question.id, sample)
                    for sample in range(config.samples)
                ),
                config.max_tokens,
            )
            for question, (_, ids) in zip(questions, prompts, strict=True)
        ]
        completions = self.engine.generate(
            requests,
            sampling=Sampling(
                temperature=config.temperature,
                top_p=config.top_p,
                logprobs=config.record_logprobs,
            ),
        )
        for question, (text, ids), found in zip(questions, prompts, completions, strict=True):
            opening = opened_thought(text)
            answers = tuple(self._answer(one, opening) for one in found)
            yield Answered(question, answers, num_prompt_tokens=len(ids))

    def _checked(
        self, question: Question, text: str, ids: tuple[int, ...] | None
    ) -> tuple[int, ...]:
        """The prompt's tokens, if the teacher can read them and has room for an answer."""
        if ids is None:
            raise unknown_token("prompt", text, where=question.where)
        if self.max_model_len is not None and len(ids) >= self.max_model_len:
            raise DataError(
                question.where,
                f"the prompt has {len(ids)} tokens, and with engine.max_model_len="
                f"{self.max_model_len} no answer fits behind it",
                fix="raise engine.max_model_len, or remove the row",
            )
        return ids

    def _answer(self, completion: Completion, opening: str) -> TeacherAnswer:
        is_complete = completion.finish_reason == "stop"
        ids = completion.token_ids
        written = ids[:-1] if is_complete else ids
        text = self.tokenizer.decode(
            written, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return TeacherAnswer(
            text=opening + text,
            is_complete=is_complete,
            num_tokens=len(ids),
            token_ids=ids,
            logprobs=completion.logprobs,
        )


def opened_thought(prompt: str) -> str:
    """`<think>` with its newlines where the prompt ends with it, so that the trace has its own."""
    is_open = prompt.rstrip().endswith(THINK)
    return THINK + prompt.rpartition(THINK)[2] if is_open else ""
