"""A `luffy-pl` command in a process of its own, as Python code starts it.

A run changes its process for good (threads, signal handlers, process groups, memory on the GPU), so
a notebook that trains twice must not be that process.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy_pl import errors
from luffy_pl.errors import ERROR_FILE, LuffyError
from luffy_pl.process.parent import before_exec

CHUNK_BYTES = 65536
STOPPED = (130, 143)
"""Exit codes of a command that a signal ended."""


def run_command(argv: Sequence[str], *, say: Callable[[str], Any] | None = None) -> str:
    """Run `luffy-pl ARGV` and return what it wrote.

    Args:
        argv: the subcommand and its arguments.
        say: gets what the command writes, piece by piece; None is this process's own output.

    Raises:
        LuffyError: the command ended with one; its class, fields and exit code are the same.
        KeyboardInterrupt: a signal ended the command.
    """
    say = say or sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "error.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "luffy_pl.cli", *argv],
            env={**os.environ, ERROR_FILE: str(file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches this process alone, which hands it on once.
            start_new_session=True,
            preexec_fn=before_exec,
        )
        try:
            said = "".join(_said(process, say))
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        if code:
            raise _error(code, file, said)
    return said


def override_arguments(overrides: Mapping[str, Any]) -> list[str]:
    """`{"data.rollout.num_phases": 20}` as arguments of a command line."""
    return [f"--{name}={_text(value)}" for name, value in overrides.items()]


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | os.PathLike) else json.dumps(value)


def _said(process: subprocess.Popen[bytes], say: Callable[[str], Any]) -> Iterator[str]:
    """What a process writes, as soon as it does: a progress bar has no ends of lines."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while piece := os.read(process.stdout.fileno(), CHUNK_BYTES):
        text = decoder.decode(piece)
        say(text)
        yield text


def _error(code: int, file: Path, said: str) -> BaseException:
    """The exception that ended a command."""
    if file.exists():
        fields = json.loads(file.read_text())
        kind: type[LuffyError] = getattr(errors, fields.pop("kind"))
        return kind(**fields)
    if code in STOPPED:
        return KeyboardInterrupt()
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    return RuntimeError(f"luffy-pl ended with exit code {code}: {last[0]}")
