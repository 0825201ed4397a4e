"""A teacher behind an OpenAI-compatible endpoint; `vllm serve` is the tested one.

The only file that imports openai.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from luffy_pl.data.chat import THINK, with_system_prompt
from luffy_pl.data.columns import Question
from luffy_pl.errors import EngineError, first_line
from luffy_pl.traces.answer import Answered, TeacherAnswer
from luffy_pl.traces.settings import TeacherConfig

RETRIES = 5
"""Retries of the client, with growing pauses: for rate limits, time-outs and a restarted server."""
TIMEOUT_S = 1800.0


class EndpointTeacher:
    """See `Teacher`."""

    def __init__(self, config: TeacherConfig, *, system_prompt: str | None) -> None:
        try:
            import openai
        except ImportError:
            raise EngineError(
                "teacher.endpoint",
                "the package openai is not installed",
                value=config.endpoint,
                fix="pip install openai, or a teacher in this process (endpoint null)",
            ) from None
        self.config, self.system_prompt = config, system_prompt
        self.errors = openai.OpenAIError
        self.client = openai.OpenAI(
            base_url=config.endpoint,
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            max_retries=RETRIES,
            timeout=TIMEOUT_S,
        )

    def answer(self, questions: Sequence[Question]) -> Iterator[Answered]:
        """`concurrency` requests at a time; answers come in the order of the questions."""
        waiting: deque[Future[Answered]] = deque()
        pool = ThreadPoolExecutor(self.config.concurrency)
        try:
            for question in questions:
                waiting.append(pool.submit(self._ask, question))
                if len(waiting) == self.config.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except self.errors as error:
            raise EngineError(
                "teacher.endpoint",
                f"does not answer ({first_line(error)})",
                value=self.config.endpoint,
                fix="start it, correct URL or model; the same command then goes on",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: Question) -> Answered:
        config = self.config
        messages: Any = with_system_prompt(question.messages, self.system_prompt)
        reply = self.client.chat.completions.create(
            model=config.model,
            messages=messages,
            n=config.samples,
            temperature=config.temperature,
            top_p=config.top_p,
            max_completion_tokens=config.max_tokens,
            seed=config.seed,
            logprobs=config.record_logprobs,
            extra_body=self._fields_of_vllm() or None,
        )
        usage = reply.usage
        total = usage.completion_tokens if usage else 0
        answers = tuple(
            read_choice(choice, total // len(reply.choices)) for choice in reply.choices
        )
        return Answered(question, answers, usage.prompt_tokens if usage else 0)

    def _fields_of_vllm(self) -> dict[str, Any]:
        """Others know no such fields, and are not asked for them."""
        fields: dict[str, Any] = {}
        if self.config.record_logprobs:
            fields["return_token_ids"] = True
        if self.config.chat_template_kwargs:
            fields["chat_template_kwargs"] = self.config.chat_template_kwargs
        return fields


def read_choice(choice: Any, num_tokens: int) -> TeacherAnswer:
    """One choice of a chat completion; `num_tokens` is its length where it does not say."""
    message = choice.message
    # A reasoning parser of the server takes the thought out of the text.
    thought = getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)
    text = message.content or ""
    if thought:
        text = f"{THINK}\n{thought.strip()}\n</think>\n\n{text.lstrip()}"
    elif "</think>" in text and THINK not in text:
        # The template of the server opened the thought; the trace has to hold all of it.
        text = THINK + text
    ids = getattr(choice, "token_ids", None)
    content = choice.logprobs.content if choice.logprobs else None
    return TeacherAnswer(
        text=text,
        is_complete=choice.finish_reason == "stop",
        num_tokens=len(ids) if ids else num_tokens,
        token_ids=tuple(ids) if ids else None,
        # A probability of 1 can come back as a rounding above it.
        logprobs=tuple(min(0.0, token.logprob) for token in content) if content else None,
    )
