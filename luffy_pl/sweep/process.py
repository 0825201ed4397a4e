"""One cell as a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from luffy_pl.process.parent import before_exec

POLL_S = 0.1
GRACE_S = 15.0


@dataclass(frozen=True)
class CellJob:
    """What a launcher needs to run a cell, on whatever machine.

    Args:
        reference: the launcher's name of an earlier job that may still be running.
    """

    cell: str
    command: tuple[str, ...]
    folder: Path
    console: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended; no exit code if it was ended from outside before it had one."""

    exit_code: int | None
    seconds: float


class Watch(Protocol):
    """Is told what a launcher does."""

    def started(self, job: CellJob, reference: str | None = None) -> None:
        """The job runs, or waits in a queue that will run it."""

    def ended(self, job: CellJob, ended: Ended) -> None:
        """The job has ended."""


def start_process(job: CellJob) -> subprocess.Popen[bytes]:
    """Start the process; what it says goes to the job's console, after earlier attempts."""
    job.console.parent.mkdir(parents=True, exist_ok=True)
    with job.console.open("ab") as console:
        console.write(f"$ {shlex.join(job.command)}\n".encode())
        console.flush()
        return subprocess.Popen(
            job.command,
            cwd=job.folder,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            preexec_fn=before_exec,
        )


def run(job: CellJob) -> Ended:
    """Start the process and wait for it; an interrupt ends it."""
    # A Ray worker of a sweep in the background of a script inherits that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    process = start_process(job)
    try:
        # Ray's interrupt does not wake a process that waits for another.
        while (exit_code := process.poll()) is None:
            time.sleep(POLL_S)
    finally:
        end([process])
    return Ended(exit_code, time.monotonic() - started)


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Interrupt what is running, which lets it end its workers; kill what does not end."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
