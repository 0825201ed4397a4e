"""What runs inside a worker process: no torch, no secrets, little memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from luffy_pl.answer.symbolic import compare_symbolically

MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of one worker; the libraries take less than a tenth of it."""

WARM_UPS = 20
_KEPT_ENVIRONMENT = frozenset({"PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "TZ"})

ComparisonStatus = Literal["ok", "timeout", "crash"]


@dataclass(frozen=True)
class Comparison:
    """`equal` is False unless `status` is ok; `ms` is the time in the worker."""

    equal: bool
    status: ComparisonStatus
    ms: float


def compare_timed(compare: Callable[[str, str], bool], answer: str, gold: str) -> Comparison:
    """`compare` with its duration; running out of time is a status."""
    start = time.perf_counter()
    equal, status = False, "timeout"
    with contextlib.suppress(TimeoutError):
        equal, status = compare(answer, gold), "ok"
    ms = 1000.0 * (time.perf_counter() - start)
    return Comparison(equal, status, ms)  # type: ignore[arg-type]


def do_nothing() -> None:
    """A task that makes pebble start."""


def harden_worker() -> None:
    """What a worker gives up before it reads a model's text; then it warms up.

    Its standard input is /dev/null already: multiprocessing sees to that.
    """
    # pebble's handler would run Python first, which a hung worker does not.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent()
    for name in set(os.environ) - _KEPT_ENVIRONMENT:
        del os.environ[name]
    # GMP integers abort the interpreter when memory runs out; Python's raise MemoryError.
    os.environ["SYMPY_GROUND_TYPES"] = "python"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    _warm_up()


def _warm_up() -> None:
    """Import what a comparison needs: a second, which no deadline of an answer should count.

    On a busy machine it takes many, and the comparison's own time limit cuts in; what is imported
    by then stays.
    """
    for _ in range(WARM_UPS):
        with contextlib.suppress(TimeoutError):
            compare_symbolically("x+1", "1+x")
            return


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the trainer is gone, however it went."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it was gone before this was asked
        os._exit(1)
