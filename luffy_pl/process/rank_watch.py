"""Every rank shows the others that it lives, so that none waits for one that is gone.

A collective waits for all ranks; when one is killed or stands still, the others would wait until a
limit of the library, which is half an hour, or for ever. So each writes a count into the store by
which the ranks found each other, every second and from a thread, and looks at those of the others.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from luffy_pl.errors import EngineError, first_line
from luffy_pl.process.alive import is_running, place

BEAT_S = 1.0
LOOK_S = 0.25
FAILED_S = 10.0
"""An error that all ranks meet ends each of them by itself; one that did not end by then is waiting
for the rank that met it."""
LAST_S = 5.0
"""Seconds in which the last words of a rank are read, and those of the others have to come."""
SILENT_S = 10.0
"""Silence that is enough once a collective has failed."""
KEY = "luffy_pl/rank/"


class Store(Protocol):
    """The part of torch's TCPStore that is needed here."""

    def set(self, key: str, value: str) -> None:
        """Write."""

    def multi_get(self, keys: list[str]) -> list[bytes]:
        """Read, when all of them are there."""
        ...


@dataclass
class Sign:
    """What another rank last showed, and when that was new, on the clock of this process."""

    value: str
    at_s: float

    @property
    def process(self) -> tuple[int, str]:
        """Its number, and where that counts."""
        _, pid, where = json.loads(self.value)
        return pid, where

    @property
    def state(self) -> int | str:
        """A count, `left` or `failed`."""
        state: int | str = json.loads(self.value)[0]
        return state


class RankWatch:
    """Ends this process when another rank is gone.

    Args:
        store: connected for this object alone: a call may block.
        deadline_s: silence after which a rank is given up; None: only one that has ended is.
        end: told the error; must end the process.
    """

    def __init__(
        self,
        store: Store,
        *,
        rank: int,
        size: int,
        deadline_s: float | None,
        end: Callable[[EngineError], None],
    ) -> None:
        self._store, self._rank, self._size = store, rank, size
        self.deadline_s, self._end = deadline_s, end
        self._seen: dict[int, Sign] = {}
        self._answered_s = time.monotonic()
        self._asked_s = -math.inf
        """When the last question began that the store has answered."""
        self._not_running_s: dict[int, float] = {}
        """When a rank was first found not to run."""
        self._is_broken = False
        self._last_state, self._failed_s = "left", FAILED_S
        self._has_left = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="ranks-beat", daemon=True)
        self._judging = threading.Thread(target=self._judge, name="ranks-judge", daemon=True)
        self._beating.start()
        self._judging.start()

    def leave(self, *, has_failed: bool) -> None:
        """End watching; tell the others that this rank comes to no collective any more."""
        self._last_state = "failed" if has_failed else "left"
        self._has_left.set()
        # The store may be gone; where it is this process's, the others have to read it once more.
        self._beating.join(LAST_S)

    def wait_for_verdict(self) -> None:
        """After a collective has failed: wait until it is known which rank is gone.

        Returns only if none is.
        """
        self.deadline_s, self._failed_s = min(self.deadline_s or SILENT_S, SILENT_S), 0.0
        # Not for the event: this thread must not go on while the other one ends the process.
        self._judging.join(SILENT_S + 2 * BEAT_S)

    def _value(self, state: int | str) -> str:
        return json.dumps([state, os.getpid(), place()])

    def _beat(self) -> None:
        others = [rank for rank in range(self._size) if rank != self._rank]
        keys = [f"{KEY}{rank}" for rank in others]
        count = 0
        try:
            while not self._has_left.is_set():
                self._store.set(f"{KEY}{self._rank}", self._value(count))
                asked_s = time.monotonic()
                found = [one.decode() for one in self._store.multi_get(keys)]
                now_s = self._answered_s = time.monotonic()
                for rank, value in zip(others, found, strict=True):
                    before = self._seen.get(rank)
                    if before is None or before.value != value:
                        self._seen[rank] = Sign(value, now_s)
                self._asked_s = asked_s
                count += 1
                self._has_left.wait(BEAT_S)
            self._store.set(f"{KEY}{self._rank}", self._value(self._last_state))
            while self._rank == 0 and any(
                isinstance(json.loads(one)[0], int) for one in self._store.multi_get(keys)
            ):
                time.sleep(LOOK_S)
        except Exception:  # noqa: BLE001  (of the store's library)
            self._is_broken = True

    def _judge(self) -> None:
        while not self._has_left.wait(LOOK_S):
            if (found := self._verdict(time.monotonic())) is not None:
                self._has_left.set()
                rank, what = found
                sign = self._seen.get(rank)
                if sign is not None:
                    kill_here(sign)
                self._end(gone(rank, sign, what))
                return

    def _verdict(self, now_s: float) -> tuple[int, str] | None:
        """The rank that is gone and what is known of it, if one is."""
        signs = sorted(self._seen.copy().items())
        for rank, sign in signs:
            pid, where = sign.process
            if sign.state == "failed":
                if now_s - sign.at_s > self._failed_s:
                    return rank, "ended with an error"
            elif sign.state != "left" and where == place() and not is_running(pid):
                # What it wrote last, perhaps that it left, may be newer than what was read.
                since_s = self._not_running_s.setdefault(rank, now_s)
                if self._asked_s > since_s or self._is_broken:
                    return rank, "has ended"
        if self._is_broken or self._is_over(now_s - self._answered_s):
            # The store is that of rank 0, or of what started the ranks.
            first = self._seen.get(0)
            has_left = first is not None and first.state == "left"
            if self._rank == 0 or has_left or now_s - self._answered_s <= LAST_S:
                return None
            return 0, "does not answer any more"
        for rank, sign in signs:
            if isinstance(sign.state, int) and self._is_over(now_s - sign.at_s):
                return rank, f"shows no sign of life for {now_s - sign.at_s:.0f} s"
        return None

    def _is_over(self, silent_s: float) -> bool:
        return self.deadline_s is not None and silent_s > self.deadline_s


def kill_here(sign: Sign) -> None:
    """End a rank of this machine that stands still: it keeps its device, and its launcher waits."""
    pid, where = sign.process
    if isinstance(sign.state, int) and where == place():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def gone(rank: int, seen: Sign | None, what: str) -> EngineError:
    """The error of the ranks that are left."""
    process = None
    if seen is not None:
        pid, where = seen.process
        process = f"process {pid} on {where.partition('/')[0]}"
    return EngineError(
        f"rank {rank}",
        f"{what}, and the others cannot go on without it",
        value=process,
        fix="look at what it said last; --resume continues from the last checkpoint",
    )


def connect_store() -> Store | None:
    """The store by which the ranks found each other; None where no address of it is known."""
    from torch._C._distributed_c10d import TCPStore

    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if address is None or port is None:
        return None
    return TCPStore(
        address, int(port), is_master=False, timeout=timedelta(days=1), wait_for_workers=False
    )


def is_of_a_collective(error: BaseException) -> bool:
    """Whether gloo, NCCL or the store says that ranks lost each other."""
    from torch import distributed as dist

    texts = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def lost_each_other(error: BaseException) -> EngineError:
    """Report a collective that broke off although every rank is alive."""
    return EngineError(
        "ranks",
        f"lost each other ({first_line(error)})",
        fix="look at the network and at what each rank said last; --resume continues from "
        "the last checkpoint",
    )
