"""A block of work that has to move now and then."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from luffy_pl.errors import EngineError, tell

GRACE_S = 60.0
"""Seconds in which the thread can still leave by itself; then the process is ended."""
MAX_LOOK_EVERY_S = 5.0


class Late(BaseException):
    """The block did not move for too long."""

    def __str__(self) -> str:
        return "no progress within data.engine.deadline_s"


class Deadline:
    """Raises `Late` in the thread that entered when `moved` is not called for a while.

    An exception reaches a thread only while it runs Python. One that hangs below, in a library
    or a driver, is not reached: then the process ends with the exit code of an engine's error.

    Args:
        seconds: between two signs of life; None: for ever.
        stacks: file for the stacks of all threads, so that one can see where it stood.
    """

    def __init__(self, seconds: float | None, stacks: Path) -> None:
        self._seconds, self._stacks = seconds, stacks
        self._left, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.get_ident()
        self._moved_s = time.monotonic()

    def moved(self) -> None:
        """A sign of life."""
        self._moved_s = time.monotonic()

    def __enter__(self) -> Self:
        self._moved_s = time.monotonic()
        if self._seconds is not None:
            watch = threading.Thread(target=self._watch, args=(self._seconds,), daemon=True)
            watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Under the lock: nothing may be raised in a thread that is already elsewhere.
        with self._lock:
            self._left.set()

    def _watch(self, seconds: float) -> None:
        while not self._left.wait(min(MAX_LOOK_EVERY_S, seconds / 4)):
            if time.monotonic() - self._moved_s > seconds:
                self._end(seconds)
                return

    def _end(self, seconds: float) -> None:
        with suppress(OSError):
            self._stacks.parent.mkdir(parents=True, exist_ok=True)
            with self._stacks.open("a", encoding="utf-8") as file:
                faulthandler.dump_traceback(file)
        with self._lock:
            if self._left.is_set():
                return
            raise_in_thread(self._thread, Late)
        if not self._left.wait(GRACE_S):
            error = EngineError(
                "data.engine.deadline_s",
                f"no progress for {seconds:g} s, and it cannot be interrupted",
                fix=f"look at {self._stacks}; --resume continues from the last checkpoint",
            )
            tell(error)
            os._exit(error.exit_code)


def raise_in_thread(thread: int, kind: type[BaseException]) -> None:
    """Raise an exception in another thread of this process, when it next runs Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
