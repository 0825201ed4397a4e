"""What runs inside a worker process: no torch, no secrets, little memory."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from luffy_pl.answer.symbolic import compare_symbolically
from luffy_pl.process.killable import confine

MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of one worker; the libraries take less than a tenth of it."""

WARM_UPS = 20

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


def harden_worker() -> None:
    """What a worker gives up before it reads a model's text; then it warms up."""
    confine(MEMORY_LIMIT_BYTES)
    # GMP integers abort the interpreter when memory runs out; Python's raise MemoryError.
    os.environ["SYMPY_GROUND_TYPES"] = "python"
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
