"""Grading that goes on while the engine still samples."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from luffy_pl.records import (
    Completion,
    Hint,
    Progress,
    Prompt,
    Response,
    Role,
    Source,
    Verdict,
)
from luffy_pl.reward.reward import RewardConfig, Verifier, build_verifier

RowKey = tuple[int, int]
"""Number of a group, and of a row in it."""


class Verifiers:
    """The verifiers of a run, one for each grading settings; workers start when they are needed."""

    def __init__(self) -> None:
        self._by_settings: dict[str, Verifier] = {}

    def of(self, reward: RewardConfig) -> Verifier:
        """The verifier of these settings, always the same one."""
        settings = repr(reward)
        if settings not in self._by_settings:
            self._by_settings[settings] = build_verifier(reward)
        return self._by_settings[settings]

    def close(self) -> None:
        """End the workers; those that are needed again are started again."""
        for verifier in self._by_settings.values():
            verifier.close()


@dataclass(frozen=True)
class Draft:
    """A response that waits for its verdict."""

    source: Source
    text: str
    completion: Completion
    num_given: int = 0
    given_logprobs: tuple[float, ...] | None = None
    role: Role = "both"
    hint: Hint | None = None

    def graded(self, verdict: Verdict) -> Response:
        """The response with its verdict."""
        return Response(
            source=self.source,
            text=self.text,
            token_ids=self.completion.token_ids,
            finish_reason=self.completion.finish_reason,
            verdict=verdict,
            logprobs=self.completion.logprobs,
            num_given=self.num_given,
            given_logprobs=self.given_logprobs,
            role=self.role,
            policy_version=self.completion.policy_version,
            hint=self.hint,
        )


@dataclass(frozen=True)
class _Waiting:
    row: RowKey
    prompt: Prompt
    write: Callable[[], Draft]


class Scoring:
    """Decodes and grades rows on a thread of its own, each when it is handed in.

    What comes in while some are being graded is graded next, together. A verdict is a function of
    its row, so how the rows fall together changes nothing.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._responses: dict[RowKey, Response] = {}
        self._error: BaseException | None = None
        self._num_added = 0
        self._on_progress: Progress | None = None
        # A daemon: an interrupted run does not wait for it.
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)

    def add(self, row: RowKey, prompt: Prompt, write: Callable[[], Draft]) -> None:
        """Hand in a row; `write` makes its text, on the other thread."""
        self._num_added += 1
        self._queue.put(_Waiting(row, prompt, write))

    def responses(self, on_progress: Progress | None = None) -> dict[RowKey, Response]:
        """All rows, graded; waits for them.

        Raises:
            VerifierError: the workers cannot run, or too many comparisons fail.
        """
        self._on_progress = on_progress
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._responses

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._queue.put(None)

    def _work(self) -> None:
        try:
            while (first := self._queue.get()) is not None:
                self._grade([first, *self._taken()])
        except BaseException as error:  # noqa: BLE001  raised where the rows are asked for
            self._error = error

    def _taken(self) -> list[_Waiting]:
        """What else has come in, up to the end mark, which stays."""
        found: list[_Waiting] = []
        while not self._queue.empty():
            waiting = self._queue.get()
            if waiting is None:
                self._queue.put(None)
                break
            found.append(waiting)
        return found

    def _grade(self, piece: list[_Waiting]) -> None:
        drafts = [waiting.write() for waiting in piece]
        num_done = len(self._responses)
        verdicts = self._verifier.grade(
            [(draft.text, waiting.prompt) for draft, waiting in zip(drafts, piece, strict=True)],
            on_progress=lambda done, _: self._tell(num_done + done),
        )
        for waiting, draft, verdict in zip(piece, drafts, verdicts, strict=True):
            self._responses[waiting.row] = draft.graded(verdict)

    def _tell(self, num_done: int) -> None:
        # Until somebody waits for it, what is shown is the engine's progress.
        if self._on_progress is not None:
            self._on_progress(num_done, self._num_added)


def text_of(completion: Completion, decode: Callable[[tuple[int, ...]], str]) -> str:
    """The decoded response, without the EOS that ended it."""
    ended = completion.finish_reason == "stop"
    return decode(completion.token_ids[:-1] if ended else completion.token_ids)


def rollout(completion: Completion, decode: Callable[[tuple[int, ...]], str]) -> Draft:
    """A sampled answer; its text ends before EOS."""
    return Draft("rollout", text_of(completion, decode), completion)


def put_back(completion: Completion, hint: Hint, decode: Callable[[tuple[int, ...]], str]) -> Draft:
    """An answer that was sampled under a hint and is to stand under the plain prompt.

    Its tokens are given ones, and their author the policy under the hint. Nobody imitates them:
    they may be wrong.
    """
    return Draft(
        "hinted",
        text_of(completion, decode),
        dataclasses.replace(completion, logprobs=None),
        num_given=len(completion.token_ids),
        given_logprobs=completion.logprobs,
        role="policy",
        hint=hint,
    )


def continued(draft: Draft, rest: Completion, decode: Callable[[tuple[int, ...]], str]) -> Draft:
    """A row that somebody else began, with the rest that was sampled."""
    whole = dataclasses.replace(rest, token_ids=draft.completion.token_ids + rest.token_ids)
    return dataclasses.replace(draft, text=text_of(whole, decode), completion=whole)
