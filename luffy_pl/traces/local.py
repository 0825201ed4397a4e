"""A teacher in this process, by the engines of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luffy_pl.data.chat import THINK, encode, render_prompt, with_chat_template, with_system_prompt
from luffy_pl.data.columns import Question
from luffy_pl.data.prompts import PromptSource
from luffy_pl.data.seeds import keyed_seed
from luffy_pl.data.tokenizer import load_tokenizer, stop_token_ids
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
        self.stop_ids = stop_token_ids(self.tokenizer)
        self.engine = start_engine(config.model, engine, stop_token_ids=self.stop_ids)

    def answer(self, questions: Sequence[Question]) -> Iterator[Answered]:
        """A batch of `concurrency` prompts at a time."""
        for start in range(0, len(questions), self.config.concurrency):
            yield from self._batch(questions[start : start + self.config.concurrency])

    def _batch(self, questions: Sequence[Question]) -> Iterator[Answered]:
        config = self.config
        texts = [
            render_prompt(
                self.tokenizer, with_system_prompt(question.messages, self.source.system_prompt)
            )
            for question in questions
        ]
        prompts = encode(self.tokenizer, texts)
        requests = [
            Request(
                tuple(ids),
                # Keyed by the row: a resumed file holds the answers it would have held.
                tuple(
                    keyed_seed(config.seed, "teacher", question.id, sample)
                    for sample in range(config.samples)
                ),
                config.max_tokens,
            )
            for question, ids in zip(questions, prompts, strict=True)
        ]
        completions = self.engine.generate(
            requests,
            sampling=Sampling(
                temperature=config.temperature,
                top_p=config.top_p,
                logprobs=config.record_logprobs,
            ),
        )
        for question, text, ids, found in zip(questions, texts, prompts, completions, strict=True):
            opening = opened_thought(text)
            answers = tuple(self._answer(one, opening) for one in found)
            yield Answered(question, answers, num_prompt_tokens=len(ids))

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
