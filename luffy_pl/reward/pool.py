"""Worker processes that compare answers with sympy, and that can be killed.

sympy on a model's text may take for ever, eat all memory or crash, so it runs in processes
with a memory limit, no secrets in the environment, and a deadline after which they are
killed. Nothing starts before the first comparison; `close` leaves nothing behind. A worker
starts in 1 s and takes 60 MB.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from luffy_pl.answer.symbolic import compare_symbolically
from luffy_pl.errors import VerifierError
from luffy_pl.process.killable import KillablePool, WorkerDied
from luffy_pl.reward.worker import Comparison, compare_timed, harden_worker

MAX_TASKS_PER_WORKER = 2000
"""sympy's caches grow: a worker is replaced after this many comparisons."""
MAX_RESTARTS = 3
"""How often a broken pool is rebuilt within one batch."""
SELF_TEST_ATTEMPTS = 3
"""The self-test is repeated if it runs out of time, as it may on a busy machine."""
POLL_S = 1.0
"""Seconds between two looks at whether the pool still lives."""
STALL_GRACE_S = 60
"""Seconds beyond all deadlines after which a pool without a result counts as broken."""
BREAKER_SHARE, BREAKER_MIN, BREAKER_WINDOW = 0.25, 40, 1024
"""If more than this share of the last answers failed, the model is not the cause. Then a call tries
a few pairs, and the rest only if one of those succeeds. The others are how many answers there have
to be, and how many are looked at."""

log = logging.getLogger(__name__)

OnDone = Callable[[int, Comparison], None]

_SELF_TEST = (
    ("x+\\frac{1}{2}", "0.5+x", True),
    ("2\\sqrt{3}", "\\sqrt{12}", True),
    ("[0,1)\\cup[1,2]", "[0,2]", True),
    ("x+1", "x+2", False),
)


class ComparisonPool:
    """Compares (answer, gold) pairs in worker processes; safe to call from any thread.

    `compare` runs there and raises TimeoutError when it gives up; it is a function of a module
    that imports no torch, or a partial of one.
    """

    def __init__(
        self,
        *,
        workers: int,
        timeout_s: int,
        compare: Callable[[str, str], bool] = compare_symbolically,
    ) -> None:
        self.workers = workers
        self.timeout_s = timeout_s
        self._compare = compare
        self._lock = threading.Lock()
        self._pool: KillablePool | None = None
        self._recent: deque[bool] = deque(maxlen=BREAKER_WINDOW)  # whether each answer failed
        self._is_warned = False

    def compare(
        self,
        pairs: Sequence[tuple[str, str]],
        on_done: OnDone | None = None,
    ) -> list[Comparison]:
        """One comparison per pair, in order; `on_done` gets each one's index as it comes.

        A comparison that fails is a "timeout" or a "crash", and so is, unseen, one that a pool does
        not try because nearly all have failed (`BREAKER_SHARE`).

        Raises:
            VerifierError: the workers cannot start.
        """
        if not pairs:
            return []
        with self._lock:
            if self._pool is None:
                self._start()
                self._self_test()
            num_tried = self.workers if self._is_broken() else len(pairs)
            compared = self._run(self._compare, pairs[:num_tried], on_done)
            self._recent.extend(found.status != "ok" for found in compared)
            left = pairs[num_tried:]
            if any(found.status == "ok" for found in compared):
                compared += self._run(self._compare, left, _behind(on_done, num_tried))
            else:
                compared += [self._given_up(num_tried + i, on_done) for i in range(len(left))]
            self._recent.extend(found.status != "ok" for found in compared[num_tried:])
            self._warn()
        return compared

    def count_decided(self, number: int) -> None:
        """Answers that needed no worker: the share of failures is one of all answers."""
        self._recent.extend([False] * min(number, BREAKER_WINDOW))

    def _is_broken(self) -> bool:
        is_enough = len(self._recent) >= BREAKER_MIN
        return is_enough and sum(self._recent) > BREAKER_SHARE * len(self._recent)

    def _given_up(self, index: int, on_done: OnDone | None) -> Comparison:
        given_up = Comparison(False, "timeout", 0.0)
        if on_done is not None:
            on_done(index, given_up)
        return given_up

    def _warn(self) -> None:
        """One line when too many answers fail, and one when they no longer do."""
        is_broken = self._is_broken()
        if is_broken != self._is_warned:
            failed, number = sum(self._recent), len(self._recent)
            log.warning(
                "data.reward: %d of the last %d answers could not be compared, which no model does "
                "by itself; they count as wrong, with the status timeout or crash. Fix: look at "
                "data.reward.timeout_s and at what else uses this machine"
                if is_broken
                else "data.reward: answers are compared again (%d of the last %d failed)",
                failed,
                number,
            )
        self._is_warned = is_broken

    def close(self) -> None:
        """End all workers; the next comparison would start new ones."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._pool = KillablePool(
            workers=self.workers, initializer=harden_worker, max_tasks=MAX_TASKS_PER_WORKER
        )

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool = None

    def _self_test(self) -> None:
        for _ in range(SELF_TEST_ATTEMPTS):
            pairs = [(answer, gold) for answer, gold, _ in _SELF_TEST]
            compared = self._run(compare_symbolically, pairs, None)
            if all(found.status != "timeout" for found in compared):
                break
        for (answer, gold, equal), found in zip(_SELF_TEST, compared, strict=True):
            if found.status != "ok" or found.equal != equal:
                self._stop()
                raise VerifierError(
                    "data.reward",
                    f"the workers fail their self-test on {answer!r} against {gold!r}",
                    value=f"{found.status}, equal={found.equal}",
                    fix="check that `python -c 'import math_verify'` works in this environment",
                )

    def _run(
        self,
        compare: Callable[[str, str], bool],
        pairs: Sequence[tuple[str, str]],
        on_done: OnDone | None,
    ) -> list[Comparison]:
        """All pairs; pebble gives a pool up if a worker dies while none has a task."""
        if not pairs:
            return []
        compared: dict[int, Comparison] = {}
        for _ in range(1 + MAX_RESTARTS):
            missing = [index for index in range(len(pairs)) if index not in compared]
            for index, comparison in self._attempt(compare, pairs, missing):
                compared[index] = comparison
                if on_done is not None:
                    on_done(index, comparison)
            if len(compared) == len(pairs):
                return [compared[index] for index in range(len(pairs))]
            self._stop()
            self._start()
        self._stop()
        raise VerifierError(
            "data.reward",
            f"the verifier's workers died {1 + MAX_RESTARTS} times over one batch",
            fix="check that `python -c 'import math_verify'` works, then look for the kernel's "
            "out-of-memory messages",
        )

    def _attempt(
        self,
        compare: Callable[[str, str], bool],
        pairs: Sequence[tuple[str, str]],
        indices: list[int],
    ) -> Iterator[tuple[int, Comparison]]:
        """Comparisons as they finish; those a broken pool loses are missing."""
        assert self._pool is not None
        futures = {}
        with contextlib.suppress(RuntimeError):  # the pool broke while it was idle
            for index in indices:
                task = self._pool.schedule(
                    compare_timed, args=(compare, *pairs[index]), timeout=self.timeout_s
                )
                futures[task] = index
        pending = set(futures)
        rounds = math.ceil(len(futures) / self.workers)
        deadline = time.monotonic() + STALL_GRACE_S + rounds * self.timeout_s
        while pending and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                for future in concurrent.futures.as_completed(set(pending), timeout=POLL_S):
                    pending.discard(future)
                    comparison = self._outcome(future)
                    if comparison is not None:
                        yield futures[future], comparison
            if not self._pool.active:
                # What it had not begun stays unanswered; what it had answered is done already.
                pending = {future for future in pending if future.done()}

    def _outcome(self, future: concurrent.futures.Future[Comparison]) -> Comparison | None:
        try:
            return future.result()
        except TimeoutError:
            return Comparison(False, "timeout", 1000.0 * self.timeout_s)
        except (WorkerDied, MemoryError):
            return Comparison(False, "crash", 0.0)
        except BrokenProcessPool:
            return None


def _behind(on_done: OnDone | None, number: int) -> OnDone | None:
    if on_done is None:
        return None
    return lambda index, found: on_done(index + number, found)
