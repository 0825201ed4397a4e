"""Files that a command writes while it works: what the disk refuses is kept and written later.

A disk that is full for an hour must not end days of training, and nothing may be lost in silence.
So what cannot be written waits in memory, in front of whatever is written to the same file next,
and is tried again with every further file. What still waits at the end is an error.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from luffy_pl.errors import StorageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 2**28
"""What waits in memory may not fill it: with more the command ends."""
OF_THE_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE,
)  # fmt: skip
"""Errors that a program cannot make by itself."""


class Waiting(NamedTuple):
    """Content of a file that the disk has not taken; `is_end`: behind what is there."""

    content: bytes
    is_end: bool


@dataclass
class _Backlog:
    """What waits, by path; which files had to until now, and why the last one did."""

    files: dict[Path, Waiting] = field(default_factory=dict)
    refused: set[Path] = field(default_factory=set)
    error: OSError | None = None


_backlog = _Backlog()
# The heartbeat writes in a thread of its own.
_lock = threading.RLock()


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and settings, for others to read as any other file.

    safetensors makes files that only their owner may read.
    """
    model.save_pretrained(folder)
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def write_file(path: Path, content: str | bytes) -> bool:
    """Replace a file in one step; False if its content has to wait.

    Half of a surrogate pair, which UTF-8 has no bytes for, is spelled out, and as JSON spells it.

    Raises:
        StorageError: too much is waiting.
    """
    return _put(path, _encoded(content), is_end=False)


def append_to_file(path: Path, content: str | bytes) -> bool:
    """Write behind what a file holds, all of it or nothing; otherwise as `write_file`."""
    return _put(path, _encoded(content), is_end=True)


@contextmanager
def all_written() -> Iterator[None]:
    """A block that ends with an error if the disk did not take all that it wrote.

    Raises:
        StorageError: of a block that had no other error; next to one it is only logged.
    """
    try:
        yield
    except BaseException:
        try:
            check_all_written()
        except StorageError as lost:
            log.warning("%s", lost)
        raise
    check_all_written()


def check_all_written() -> None:
    """Try what waits a last time, and forget it.

    Raises:
        StorageError: the disk still refuses something.
    """
    with _lock:
        _write_waiting()
        left, error = list(_backlog.files), _backlog.error
        _forget()
    if left:
        more = f" and {len(left) - 1} other files" if len(left) > 1 else ""
        raise StorageError(
            f"{left[0]}{more}",
            f"could not be written ({_reason(error)})",
            fix="make room on that disk, or give it back; then run again, a fit with --resume",
        )


@contextmanager
def standard_streams(*, are_the_result: bool) -> Iterator[None]:
    """Standard output and error of a command, which may go into files of a full disk.

    Args:
        are_the_result: what the disk refuses is an error; else it is dropped, for files say it too.
    """
    streams: tuple[Any, Any] = (sys.stdout, sys.stderr)
    if not are_the_result:
        sys.stdout, sys.stderr = map(_Dropping, streams)
    try:
        yield
        sys.stdout.flush()
    except SystemExit:
        sys.stdout.flush()
        raise
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:
            try:
                stream.flush()
            except OSError:
                # Python would try once more when it ends, and end with 120.
                with suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Dropping:
    """A stream that drops what the disk refuses."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            _raise_others(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            _raise_others(error)


def _raise_others(error: OSError) -> None:
    if error.errno not in OF_THE_DISK:
        raise error


def storage_error(error: BaseException) -> StorageError | None:
    """What a disk that is full or broken made of a program, as an error of the user's world."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in OF_THE_DISK:
            where, what = seen.filename, seen.strerror
        else:
            # Libraries in other languages hand over the text alone.
            texts = [os.strerror(number) for number in OF_THE_DISK[:2]]
            where, what = None, next((text for text in texts if text in str(seen)), None)
        if what is not None:
            return StorageError(
                str(where or "disk"),
                f"cannot be written ({what})",
                fix="make room on that disk, or name another folder",
            )
        seen = seen.__cause__ or seen.__context__
    return None


def _encoded(content: str | bytes) -> bytes:
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def _put(path: Path, content: bytes, *, is_end: bool) -> bool:
    with _lock:
        if is_end and path in _backlog.files:
            before = _backlog.files[path]
            content, is_end = before.content + content, before.is_end
        _backlog.files[path] = Waiting(content, is_end)
        _write_waiting()
        is_written = path not in _backlog.files
        if sum(len(one.content) for one in _backlog.files.values()) > MAX_WAITING_BYTES:
            check_all_written()
    return is_written


def _write_waiting() -> None:
    """Try every file; say when the first one has to wait, and when none does any more."""
    for path, waiting in list(_backlog.files.items()):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            (_append if waiting.is_end else _replace)(path, waiting.content)
        except OSError as error:
            if _backlog.error is None:
                log.warning(
                    "%s cannot be written (%s); it waits in memory and is tried again with "
                    "every further file",
                    path,
                    _reason(error),
                )
            _backlog.error = error
            _backlog.refused.add(path)
        else:
            del _backlog.files[path]
    if not _backlog.files and _backlog.error is not None:
        log.warning(
            "the disk takes files again: all %d that waited are written", len(_backlog.refused)
        )
        _forget()


def _reason(error: OSError | None) -> str:
    return (error and error.strerror) or "unknown"


def _forget() -> None:
    _backlog.files.clear()
    _backlog.refused.clear()
    _backlog.error = None


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _append(path: Path, content: bytes) -> None:
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
    except OSError:
        # A line that is cut off would swallow the next one.
        with suppress(OSError):
            os.truncate(path, size)
        raise
