"""Signals that ask a process to end: when they take effect, and how ranks agree on it.

Outside of training one of them is an exception at once. While a run trains it only sets a flag,
which is looked at between two steps of the engine, between two answers that are graded, and at the
end of a phase: there, what is in memory is the state after a whole phase, and can be saved as that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes: 128 and the number of the signal, as shells count. SIGUSR1 counts as SIGTERM."""
LOOK_EVERY_S = 0.5
"""Seconds between two looks for the file by which one rank tells the others."""
ECHO_S = 1.0
"""Launcher and terminal may both pass a signal on: what comes within this time is one request."""

Found = TypeVar("Found")


class Stopped(BaseException):
    """The process was asked to end.

    Args:
        number: of the signal.
        is_agreed: every rank raises it here; otherwise the others still have to be told.
    """

    def __init__(self, number: int, *, is_agreed: bool = False) -> None:
        super().__init__(number)
        self.number, self.is_agreed = number, is_agreed

    @property
    def exit_code(self) -> int:
        """Of the process."""
        return INTERRUPTED if self.number == signal.SIGINT else TERMINATED


class BooleanReducer(Protocol):
    """The part of a Lightning strategy that is needed here."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Whether any rank, or every one, says yes."""
        ...


@dataclass
class _Request:
    """What this process was asked, and what it does about it."""

    number: int | None = None
    asked_at_s: float = 0.0
    is_deferred: bool = False
    stop_file: Path | None = None
    next_look_s: float = 0.0


_request = _Request()


@contextmanager
def signals() -> Iterator[None]:
    """Turn SIGTERM and SIGUSR1 into `Stopped` for as long as the block runs.

    Lightning alone would go on to the end of the phase, which may be longer than a scheduler waits,
    and then exit with 0.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    _request = _Request()
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _request = _Request()


def defer(stop_file: Path) -> None:
    """From now on a signal waits for `check` or `agree`; Ctrl-C too.

    Args:
        stop_file: where one rank tells the others, or a person all of them.
    """
    _request.is_deferred, _request.stop_file = True, stop_file
    if threading.current_thread() is threading.main_thread():
        # Again, because Lightning puts its own before ours: that one calls collectives.
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, _handle)


def defer_no_more() -> None:
    """What can be lost is saved: a signal is an exception again."""
    _request.is_deferred = False


def check() -> None:
    """Raise `Stopped` if the run was asked to end. For places without collectives."""
    if _request.is_deferred and (number := _asked()) is not None:
        raise Stopped(number)


def agree(ranks: BooleanReducer) -> None:
    """Raise `Stopped` on every rank if one was asked to end. A collective while a run trains."""
    if not _request.is_deferred:
        return
    number = _asked()
    if ranks.reduce_boolean_decision(number is not None, all=False):
        raise Stopped(number or signal.SIGTERM, is_agreed=True)


def together(ranks: BooleanReducer, work: Callable[[], Found]) -> Found:
    """Do work that has no collectives and may be stopped on one rank; then all stop, or none."""
    try:
        found = work()
    except Stopped as stopped:
        if not stopped.is_agreed:
            agree(ranks)
        raise
    agree(ranks)
    return found


def _asked() -> int | None:
    """The signal that came to this rank, or to another one."""
    file, now_s = _request.stop_file, time.monotonic()
    if file is None or now_s < _request.next_look_s:
        return _request.number
    _request.next_look_s = now_s + LOOK_EVERY_S
    with suppress(OSError):  # then the others learn it where all meet
        if _request.number is not None:
            file.write_text(str(_request.number))
        elif file.exists():
            text = file.read_text().strip()
            _request.number = int(text) if text.isdigit() else int(signal.SIGTERM)
    return _request.number


def _handle(number: int, frame: Any) -> None:
    now_s = time.monotonic()
    if _request.number is not None:
        if now_s - _request.asked_at_s > ECHO_S:
            _leave(number)
        return
    _request.number, _request.asked_at_s, _request.next_look_s = number, now_s, 0.0
    if not _request.is_deferred:
        raise Stopped(number)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        name = signal.Signals(number).name
        text = f"luffy-pl: {name}: stops as soon as it can be saved; again: at once\n"
        os.write(2, text.encode())  # not through sys.stderr, which may be in the midst of a write


def _leave(number: int) -> NoReturn:
    """Without saving. Workers of the verifier end with their parent."""
    os.write(2, b"luffy-pl: stopped without saving; the last checkpoint is whole\n")
    os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
