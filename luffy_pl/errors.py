"""Errors that a user can fix: one line that says where, what, which value, and the fix.

Anything else that is raised is a defect of ours; its traceback is in the run's `logs/`, or shown by
`--debug`.
"""

import functools
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

ERROR_FILE = "LUFFY_PL_ERROR_FILE"
"""Environment variable: where a process that started a command reads the error that ended it."""


class LuffyError(Exception):
    """An error in the user's world.

    Args:
        where: the dotted configuration field, or `file:row`.
        what: what is wrong.
        value: the offending value; None where there is none to show.
        fix: what to do about it.
    """

    exit_code = 1

    def __init__(self, where: str, what: str, *, fix: str, value: object = None) -> None:
        self.where, self.what, self.value, self.fix = where, what, value, fix
        got = "" if value is None else f", got {value!r}"
        super().__init__(f"{where}: {what}{got}. Fix: {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """The same error in another process."""
        made = functools.partial(type(self), value=self.value, fix=self.fix)
        return made, (self.where, self.what)


class ConfigError(LuffyError):
    """A setting, or two that contradict each other."""

    exit_code = 2


class DataError(LuffyError):
    """A file, or a row of it."""

    exit_code = 3


class ModelError(LuffyError):
    """Weights, tokenizer or chat template."""

    exit_code = 4


class EngineError(LuffyError):
    """The rollout engine, its agreement with the trainer, a GPU that failed, or another rank."""

    exit_code = 5


class VerifierError(LuffyError):
    """The reward workers."""

    exit_code = 6


class DivergedError(LuffyError):
    """A loss or gradient that is not finite."""

    exit_code = 7


class StorageError(LuffyError):
    """The run directory or a checkpoint."""

    exit_code = 8


class DeviceMemoryError(LuffyError):
    """Not enough memory for what was asked."""

    exit_code = 9


def leave(error: LuffyError) -> None:
    """Write an error to the file that the process which started this one reads, if it named one.

    Ranks share the file, and the first of them to write it knows why the others end.
    """
    if file := os.environ.get(ERROR_FILE):
        fields = {name: getattr(error, name) for name in ("where", "what", "fix", "value")}
        text = json.dumps({"kind": type(error).__name__, **fields}, default=str)
        with suppress(OSError), Path(file).open("x", encoding="utf-8") as out:
            out.write(text)


def tell(error: LuffyError) -> None:
    """Say and leave the error of a process that a thread is about to end."""
    os.write(2, f"luffy-pl: error [{error.exit_code}] {error}\n".encode())
    leave(error)


def printable(text: str, *, keep: str = "") -> str:
    """The text without control characters: what a model or a file says must not move a cursor."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def named(error: BaseException) -> str:
    """Type and first line of an error that code of others has raised."""
    kind, said = type(error).__name__, first_line(error)
    return said if said == kind else f"{kind}: {said}"


def first_line(error: BaseException) -> str:
    """What a library says went wrong, short enough to stand inside one of our lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
