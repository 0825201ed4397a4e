"""Turns of one conversation: rendered as in training, answered piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.chat.opened import Opened
from luffy_pl.data.chat import THINK, Message, Rendering, encode_known, with_system_prompt
from luffy_pl.errors import DataError
from luffy_pl.rollout.engine import MAX_TEMPERATURE, Request, Sampling

HALF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes of a character that the next token completes."""


@dataclass(frozen=True)
class ChatOptions:
    """How answers are sampled."""

    temperature: float = bounded(0.6, at_least=0, at_most=MAX_TEMPERATURE)
    """Softmax temperature; 0 is greedy."""
    top_p: float = bounded(1.0, above=0, at_most=1)
    """Smallest set of tokens with at least this probability; 1 keeps all."""
    seed: int = bounded(0, at_least=0)
    """The same seed and the same lines give the same answers on a CPU."""
    max_tokens: int | None = bounded(None, at_least=1)
    """Longest answer, in tokens; None fills the window."""

    def __post_init__(self) -> None:
        check_bounds(self, "chat")


@dataclass
class Dialogue:
    """What was said so far.

    Args:
        system_prompt: the system message; None takes the one that the model was trained with, ""
            has none.
    """

    model: Opened
    options: ChatOptions
    system_prompt: str | None = None
    messages: list[Message] = field(default_factory=list)
    was_cut: bool = False
    """Whether the last answer ended because there was no room for more."""

    def answer(self, text: str) -> Generator[str]:
        """Yield the answer to a message as it is sampled.

        An iterator that is closed early keeps what was answered so far.

        Raises:
            DataError: the conversation has filled the model's window, or the tokenizer cannot write
                the message; nothing is kept of the turn.
        """
        messages: list[Message] = [*self.messages, {"role": "user", "content": text}]
        prompt, ids = self._prompt(messages)
        room = self.model.max_model_len - len(ids)
        if room < 1:
            raise DataError(
                "chat", "the conversation has more tokens than the model's window",
                value=f"{len(ids)} of {self.model.max_model_len}",
                fix="begin a new one, or give more with --max-model-len",
            )  # fmt: skip
        request = Request(
            ids,
            seeds=(self.options.seed + len(self.messages),),
            max_tokens=min(room, self.options.max_tokens or room),
        )
        sampling = Sampling(temperature=self.options.temperature, top_p=self.options.top_p)
        said = opened_by(prompt)
        with closing(self.model.engine.stream(request, sampling=sampling)) as tokens:
            try:
                for piece in decoded(self._until_end(tokens), self._decode):
                    said += piece
                    yield piece
            finally:
                self.messages = [*messages, {"role": "assistant", "content": said}]

    def begin_again(self) -> None:
        """Forget what was said."""
        self.messages = []

    def _prompt(self, messages: Sequence[Message]) -> tuple[str, tuple[int, ...]]:
        system = self.model.system_prompt if self.system_prompt is None else self.system_prompt
        tokenizer = self.model.tokenizer
        [prompt] = Rendering(tokenizer).prompts([with_system_prompt(messages, system)])
        [ids] = encode_known(tokenizer, [prompt])
        if ids is None:
            raise DataError(
                "chat", "the tokenizer of this model has no token for a part of the message",
                value=messages[-1]["content"][-60:],
                fix="write what the model was trained on; the first prompt of a dry run shows it",
            )  # fmt: skip
        return prompt, ids

    def _until_end(self, tokens: Iterator[int]) -> Iterator[int]:
        self.was_cut = True
        for token in tokens:
            if token in self.model.stop_token_ids:
                self.was_cut = False
                return
            yield token

    def _decode(self, ids: Sequence[int]) -> str:
        text = self.model.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


def opened_by(prompt: str) -> str:
    """The beginning of an answer that the template writes itself, such as `<think>`."""
    before, think, behind = prompt.rpartition(THINK)
    return think + behind if before and not behind.strip() else ""


def decoded(tokens: Iterator[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Text of tokens as they come; a character of several tokens comes with its last one.

    A token may read differently behind another one, so it is decoded behind those of the piece
    before.
    """
    ids: list[int] = []
    start = end = 0
    for token in tokens:
        ids.append(token)
        before, text = decode(ids[start:end]), decode(ids[start:])
        if not text.endswith(HALF_A_CHARACTER):
            start, end = end, len(ids)
            yield text[len(before) :]
    if end < len(ids):
        yield decode(ids[start:])[len(decode(ids[start:end])) :]
