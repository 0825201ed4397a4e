"""The worker process that renders chat templates, started once and kept for all rows."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from luffy_pl.data.template_worker import (
    CPU_SECONDS,
    MEMORY_LIMIT_BYTES,
    Conversation,
    TemplateFault,
    harden_template_worker,
    render_conversations,
    template_names,
)
from luffy_pl.process.killable import KillablePool, WorkerDied

TIMEOUT_S = 600.0
"""Seconds that pass; the limit of a template is CPU time."""
POLL_S = 1.0
"""Seconds between two looks at whether the worker still lives."""
MAX_RESTARTS = 3
"""How often a worker that died without a task is replaced for one text."""
CHARACTERS_PER_TASK = 4_000_000
"""Characters of the conversations that a task holds: they have to fit the memory of a worker."""


class TemplateRenderer:
    """Renders in a worker; nothing starts before the first text, and `close` leaves nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: KillablePool | None = None

    def render(
        self,
        source: str,
        names: Mapping[str, Any],
        conversations: Sequence[Conversation],
        *,
        add_generation_prompt: bool,
    ) -> list[str]:
        """The text of each conversation.

        Args:
            source: the Jinja template.
            names: what it is given beside the messages.

        Raises:
            TemplateFault: the template cannot be parsed, fails, or takes too much.
        """
        texts: list[str] = []
        for part in _parts(conversations):
            try:
                texts += self._call(
                    render_conversations,
                    source,
                    names,
                    part,
                    add_generation_prompt=add_generation_prompt,
                )
            except TemplateFault as fault:
                number = len(texts) + fault.number
                raise TemplateFault(fault.reason, number, fault.is_of_one) from None
        return texts

    def names_of(self, source: str) -> set[str]:
        """The names that the template expects to be given; it raises as `render` does."""
        found: set[str] = self._call(template_names, source)
        return found

    def close(self) -> None:
        """End the worker; the next text would start a new one."""
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """In a fork, the worker belongs to the parent."""
        self._lock = threading.Lock()
        self._pool = None

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            for _ in range(1 + MAX_RESTARTS):
                task = self._begun(function, args, kwargs)
                if task is not None:
                    return _result(task)
                self._stop()
        raise TemplateFault(f"its worker died {1 + MAX_RESTARTS} times before it was asked")

    def _begun(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Future[Any] | None:
        """The task when it is done; None if the pool breaks, as one does whose worker was idle."""
        if self._pool is None:
            self._pool = KillablePool(workers=1, initializer=harden_template_worker)
        try:
            task = self._pool.schedule(function, args=args, kwargs=kwargs, timeout=TIMEOUT_S)
        except RuntimeError:  # it broke while it was idle
            return None
        while not wait([task], timeout=POLL_S).done:
            if not self._pool.active:
                return None
        return None if isinstance(task.exception(), BrokenProcessPool) else task

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool = None


def _parts(conversations: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    part: list[Conversation] = []
    size = 0
    for messages in conversations:
        part.append(messages)
        size += sum(len(message["content"]) for message in messages)
        if size >= CHARACTERS_PER_TASK:
            yield part
            part, size = [], 0
    if part:
        yield part


def _result(task: Future[Any]) -> Any:
    try:
        return task.result()
    except TimeoutError:
        raise TemplateFault(f"it takes more than {TIMEOUT_S:g} s") from None
    except WorkerDied as death:
        if death.exitcode == -signal.SIGPROF:
            reason = f"it takes more than {CPU_SECONDS:g} s of CPU time"
        else:
            memory = MEMORY_LIMIT_BYTES >> 30
            reason = f"its process of {memory} GiB died with exit code {death.exitcode}"
        raise TemplateFault(reason) from None


RENDERER = TemplateRenderer()
"""The one of this process."""
atexit.register(RENDERER.close)
os.register_at_fork(after_in_child=RENDERER.forget)
