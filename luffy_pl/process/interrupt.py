"""Signals that ask a process to end: when they take effect, and how ranks agree on it.

While modules are imported one of them ends the process; then, outside of training, it is an
exception at once. While a run trains it only sets a flag, which is looked at between two steps of
the engine, between two answers that are graded, and at the end of a phase: there, what is in memory
is the state after a whole phase, and can be saved as that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from luffy_pl.errors import ConfigError, DataError, LuffyError, ModelError

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes: 128 and the number of the signal, as shells count. SIGUSR1 counts as SIGTERM."""
LOOK_EVERY_S = 0.5
"""Seconds between two looks for the file by which one rank tells the others."""
ECHO_S = 1.0
"""Launcher and terminal may both pass a signal on: what comes within this time is one request."""
GRACE_S = 3.0
"""Seconds in which an exception has to end the process where nothing has to be saved."""
REFUSALS = (ConfigError, DataError, ModelError)
ENDING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
Found = TypeVar("Found")


class Stopped(BaseException):
    """The process was asked to end.

    Args:
        number: of the signal.
        is_agreed: every rank raises it here; otherwise the others still have to be told.
    """

    def __init__(self, number: int, *, is_agreed: bool = False) -> None:
        self.number, self.is_agreed = number, is_agreed
        word = "interrupted" if self.exit_code == INTERRUPTED else "terminated"
        super().__init__(f"{word} [{self.exit_code}]")

    @property
    def exit_code(self) -> int:
        """Exit code of the process."""
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
    is_loading: bool = True
    was_raised: bool = False
    asked_at_s: float = 0.0
    is_deferred: bool = False
    stop_file: Path | None = None
    next_look_s: float = 0.0


_request = _Request()
_bar_lines: Callable[[], int] = int


@contextmanager
def signals(*, is_patient: bool = False) -> Iterator[None]:
    """Turn SIGTERM and SIGUSR1 into `Stopped` for as long as the block runs.

    Lightning alone would go on to the end of the phase, which may be longer than a scheduler waits,
    and then exit with 0.

    Until `imports_done` a signal ends the process itself: the exception would be raised within
    whatever is being imported, which may swallow it or make another one of it. Where that happens
    later, the block still ends with `Stopped`, and the process ends after `GRACE_S` at the latest.

    Args:
        is_patient: processes that the block started may need longer than that to end.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    _request = request = _Request()
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if before[number] is not signal.SIG_IGN:  # as a shell has it for what is in its background
            signal.signal(number, _handle)
    try:
        with nullcontext() if is_patient else _watched(request):
            yield
        if request.was_raised:
            raise _stopped(request.number)
    except (Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:
        # An error of what is being read may be what a library made of the signal.
        is_own = isinstance(error, LuffyError) and not isinstance(error, REFUSALS)
        if request.was_raised and not is_own:
            raise _stopped(request.number) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _request = _Request()


def imports_done() -> None:
    """What the command needs is imported: from now on a signal is an exception."""
    _request.is_loading = False


def is_ending() -> bool:
    """Whether a signal is what the process ends of, whatever exception became of it."""
    return _request.was_raised


@contextmanager
def _watched(request: _Request) -> Iterator[None]:
    """A thread ends the process where the main one cannot: it is in a library and not in Python."""
    has_left = threading.Event()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(
        target=_watch, args=(read_end, request, has_left), name="signals", daemon=True
    ).start()
    try:
        yield
    finally:
        has_left.set()
        signal.set_wakeup_fd(before)
        os.close(write_end)


def _watch(read_end: int, request: _Request, has_left: threading.Event) -> None:
    first_s: float | None = None
    while byte := os.read(read_end, 1):
        if byte[0] not in ENDING:
            continue
        first_s = first_s or time.monotonic()
        is_again = time.monotonic() - first_s > ECHO_S
        if request.is_deferred and not is_again:
            continue
        if not has_left.wait(GRACE_S) and (is_again or not request.is_deferred):
            _leave(byte[0], is_deferred=request.is_deferred)
    os.close(read_end)


def _leave_wakeup_to_parent() -> None:
    """A forked child has the handlers, but its signals are none of the parent's."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_leave_wakeup_to_parent)


def defer(stop_file: Path) -> None:
    """From now on a signal waits for `check` or `agree`; Ctrl-C too.

    Args:
        stop_file: where one rank tells the others, or a person all of them.
    """
    imports_done()
    _request.is_deferred, _request.stop_file = True, stop_file
    if threading.current_thread() is threading.main_thread():
        # Again, because Lightning puts its own before ours: that one calls collectives.
        for number in ENDING:
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
    if _request.is_loading:
        _leave(number, is_deferred=False)
    if _request.number is not None:
        if now_s - _request.asked_at_s > ECHO_S:
            _leave(number, is_deferred=_request.is_deferred)
        return
    _request.number, _request.asked_at_s, _request.next_look_s = number, now_s, 0.0
    if not _request.is_deferred:
        _request.was_raised = True
        raise _stopped(number)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        name = signal.Signals(number).name
        text = f"luffy-pl: {name}: stops as soon as it can be saved; again: at once"
        text = above(_bar_lines() if os.isatty(2) else 0, text)
        os.write(2, text.encode())  # not through sys.stderr, which may be in the midst of a write


def stand_above(num_lines: Callable[[], int]) -> None:
    """Have the line of a signal stand above that many lines, which are drawn again in place."""
    global _bar_lines
    _bar_lines = num_lines


def above(num_lines: int, text: str) -> str:
    """What writes a line where the bars begin, and leaves the cursor where they are drawn again."""
    erase_line, line_up = "\x1b[2K", "\x1b[1A"
    if num_lines == 0:
        return f"{text}\n"
    back = "\r" + erase_line + (line_up + erase_line) * (num_lines - 1)
    return back + text + "\n" * num_lines


def _stopped(number: int | None) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number or signal.SIGTERM)


def _leave(number: int, *, is_deferred: bool) -> NoReturn:
    """Without saving. Workers of the verifier end with their parent."""
    stopped = Stopped(number)
    text = f"luffy-pl: {stopped}\n"
    if is_deferred:
        text = "luffy-pl: stopped without saving; the last checkpoint is whole\n"
    os.write(2, text.encode())
    os._exit(stopped.exit_code)
