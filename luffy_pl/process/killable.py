"""Worker processes for what others wrote: a model's answer, a chat template.

Such text may take for ever, eat all memory or crash, so it is handled by processes with a memory
limit and no secrets, which can be killed.

Why spawn: fork copies the locks of the trainer's threads (torch, vLLM), and a forkserver outlives
the pool. A worker starts in a fraction of a second, since it imports neither.

Workers, and the process in which multiprocessing keeps its list of semaphores, say nothing on
stderr: where their parent ends while they start, Python would print a traceback for each of them.
What goes wrong in a worker comes back as an exception of its task.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from pebble import ProcessExpired, ProcessPool

from luffy_pl.process.parent import HAS_PRCTL, die_with_parent

STDERR = 2
_KEPT_ENVIRONMENT = frozenset({"PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "TZ"})

WorkerDied = ProcessExpired
"""Raised for a task whose worker ended before it had answered; `exitcode` as Python has it."""


class KillablePool:
    """A running pool of workers; `stop` leaves nothing behind.

    Args:
        workers: number of processes.
        initializer: called in each worker before its first task; it calls `confine`.
        max_tasks: a worker is replaced after so many tasks; 0 keeps it.
    """

    def __init__(
        self, *, workers: int, initializer: Callable[[], None], max_tasks: int = 0
    ) -> None:
        # A worker dies with the thread that started it (PR_SET_PDEATHSIG counts threads), so
        # one thread that lives as long as the pool starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="worker-starter")
        self._pool: ProcessPool = self._starter.submit(
            _new_pool, workers, initializer, max_tasks
        ).result()

    @property
    def active(self) -> bool:
        """Whether it takes tasks; a pool is given up if a worker dies while none has a task."""
        return bool(self._pool.active)

    def schedule(
        self,
        function: Callable[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Future[Any]:
        """Have a worker call `function`; it is killed after `timeout` seconds."""
        return self._pool.schedule(function, args=args, kwargs=dict(kwargs or {}), timeout=timeout)

    def stop(self) -> None:
        """End all workers."""
        self._pool.stop()
        self._pool.join()
        self._starter.shutdown()


def confine(memory_bytes: int) -> None:
    """Give up what a worker does not need, before it reads a stranger's text.

    Its standard input is /dev/null already: multiprocessing sees to that.

    Args:
        memory_bytes: limit of its address space, where the system has one: macOS refuses it.
    """
    # pebble's handler would run Python first, which a hung worker does not.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _leave_no_worker()
    for name in set(os.environ) - _KEPT_ENVIRONMENT:
        del os.environ[name]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (OSError, ValueError):
        if HAS_PRCTL:
            raise


def do_nothing() -> None:
    """A task that makes pebble start."""


def _new_pool(workers: int, initializer: Callable[[], None], max_tasks: int) -> ProcessPool:
    with _silent_children():
        resource_tracker.ensure_running()
    pool = ProcessPool(
        max_workers=workers,
        max_tasks=max_tasks,
        initializer=initializer,
        context=_LeanContext(),
    )
    pool.schedule(do_nothing)  # pebble starts its processes with the first task
    return pool


def _leave_no_worker() -> None:
    """Leave no worker behind when the trainer is gone, however it went."""
    die_with_parent()
    parent = multiprocessing.parent_process()
    if HAS_PRCTL and parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was gone before this was asked


@contextmanager
def _silent_children() -> Iterator[None]:
    """Have multiprocessing start a process without stderr, which Ctrl-C does not reach either.

    A terminal sends Ctrl-C to all processes, and one that still starts would die of it, with a
    traceback. Elsewhere than on Linux a process starts as usual.
    """
    usual = multiprocessing.util.spawnv_passfds
    if HAS_PRCTL:
        multiprocessing.util.spawnv_passfds = _spawn_silently  # type: ignore[assignment]
    try:
        yield
    finally:
        multiprocessing.util.spawnv_passfds = usual


def _spawn_silently(path: str, args: Sequence[str], passfds: Sequence[int]) -> int:
    """As `multiprocessing.util.spawnv_passfds`; on Linux a descriptor put onto itself is kept."""
    kept = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in passfds if fd != STDERR]
    silent = (os.POSIX_SPAWN_OPEN, STDERR, os.devnull, os.O_WRONLY, 0)
    return os.posix_spawn(
        path, list(args), os.environ, file_actions=[silent, *kept], setsigmask=[signal.SIGINT]
    )


class _LeanProcess(SpawnProcess):
    """A spawned process that leaves the parent's script alone, which may import torch."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        # The start-up data names the module of __main__, or nothing if it is an empty one.
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            with _silent_children():
                return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = script


class _LeanContext(SpawnContext):
    Process = _LeanProcess
