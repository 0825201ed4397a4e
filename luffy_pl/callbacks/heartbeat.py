"""A sign of life every few seconds, and where a run stands that no longer moves."""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import lightning as L

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.errors import StorageError
from luffy_pl.process.interrupt import Stopped, is_ending
from luffy_pl.records import Experience
from luffy_pl.run_dir.status import RunStatus, State, write_status
from luffy_pl.training.module import LuffyModule

log = logging.getLogger(__name__)

REARM_EVERY_S = 1.0


@dataclass
class Stage:
    """What a run does now; times are seconds since 1970."""

    name: str
    done: int
    total: int
    moved: float


class Heartbeat(L.Callback):
    """Writes `status.json`, which `luffy-pl status` shows, and the stacks of a run that hangs.

    Args:
        every_s: seconds between two heartbeats.
        hang_after_s: seconds in which nothing moves after which the stacks of all threads go to
            `logs/hang-<stage>.txt`, for each stage once; the run is left alone. null never looks.
    """

    def __init__(self, every_s: float = 10.0, hang_after_s: float | None = 1800.0) -> None:
        for name, value in (("every_s", every_s), ("hang_after_s", hang_after_s)):
            check_bound(f"heartbeat.{name}", value, Bound(above=0, at_most=1e9))
        self.every_s, self.hang_after_s = every_s, hang_after_s
        self.started = time.time()
        self.state: State = "starting"
        self.stage = Stage("start", 0, 0, self.started)
        self.counts = (0, 0)  # phases trained, and all
        self.run_dir: Path | None = None
        self.has_ended = threading.Event()
        self.thread = threading.Thread(target=self.beat, name="heartbeat", daemon=True)
        self.watch: HangWatch | None = None

    # -- what moves --------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """Begin; of an evaluation alone there is no status."""
        if stage != "fit" or self.run_dir is not None:
            return
        self.run_dir = Path(trainer.default_root_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if self.hang_after_s is not None:
            self.watch = HangWatch(self.run_dir, self.hang_after_s, rank=trainer.global_rank)
        trainer.datamodule.attach(progress=self.move)
        self.move("load", 0, 0)
        if trainer.is_global_zero:
            self.write()
            self.thread.start()

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Phases begin."""
        self.state = "running"
        self.count(trainer, module)

    def on_train_batch_start(
        self, trainer: L.Trainer, module: LuffyModule, batch: Experience, index: int
    ) -> None:
        """Training begins."""
        self.move("train", 0, 0)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """Weights, evaluation and checkpoint follow."""
        self.move("sync", 0, 0)
        self.count(trainer, module)

    def move(self, stage: str, done: int, total: int) -> None:
        """Record progress in a stage."""
        if self.watch is not None:
            self.watch.move(stage)
        self.stage = Stage(stage, done, total, time.time())

    def count(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """How far the run is."""
        self.counts = (module.phases_trained, trainer.datamodule.rollout.num_phases)

    # -- how it ends -------------------------------------------------------------------------

    def teardown(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """All phases are trained, and what a run leaves at its end is written."""
        self.end(trainer, "finished")

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """Asked to end, or broken."""
        is_stop = isinstance(exception, Stopped | KeyboardInterrupt) or is_ending()
        self.end(trainer, "stopped" if is_stop else "failed")

    def end(self, trainer: L.Trainer, state: State) -> None:
        """The last heartbeat."""
        if self.watch is not None:
            self.watch.close()
        if self.run_dir is None or self.has_ended.is_set():
            return
        self.state = state
        self.has_ended.set()
        if trainer.is_global_zero:
            self.thread.join()
            self.write()

    def beat(self) -> None:
        """The thread of rank 0."""
        while not self.has_ended.wait(self.every_s):
            self.write()

    def write(self) -> None:
        """Say how the run is."""
        if self.run_dir is None:
            return
        phase, num_phases = self.counts
        status = RunStatus(
            state=self.state,
            pid=os.getpid(),
            host=os.uname().nodename,
            phase=phase,
            num_phases=num_phases,
            stage=self.stage.name,
            done=self.stage.done,
            total=self.stage.total,
            started=self.started,
            moved=self.stage.moved,
            written=time.time(),
            every_s=self.every_s,
        )
        with suppress(StorageError):  # of all that waits; whoever wrote that says so
            write_status(self.run_dir, status)


class HangWatch:
    """Has all stacks written when `move` is not called for a while.

    By a thread of faulthandler in C: also when Python itself stands still.
    """

    def __init__(self, run_dir: Path, after_s: float, *, rank: int) -> None:
        self.folder, self.after_s, self.rank = run_dir / "logs", after_s, rank
        self.stage = ""
        self.file: IO[str] | None = None
        self.armed_s = 0.0
        # Where phases overlap, the thread that samples moves as well as the one that trains.
        self.lock = threading.RLock()

    def move(self, stage: str) -> None:
        """Start the time again."""
        with self.lock:
            now_s = time.monotonic()
            if stage != self.stage:
                self.close()
                self.file, self.stage = self.open(stage), stage
            elif now_s - self.armed_s < REARM_EVERY_S:
                return
            self.armed_s = now_s
            if self.file is not None:
                faulthandler.dump_traceback_later(self.after_s, file=self.file)

    def open(self, stage: str) -> IO[str] | None:
        """A file for the stacks; None if the disk gives none: then nobody looks."""
        suffix = f"-rank{self.rank}" if self.rank else ""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            return (self.folder / f"hang-{slug(stage)}{suffix}.txt").open("a", encoding="utf-8")
        return None

    def close(self) -> None:
        """Stop watching; a file without stacks is not left behind."""
        with self.lock:
            faulthandler.cancel_dump_traceback_later()
            if self.file is not None:
                with suppress(OSError):
                    self.file.close()
                    path = Path(self.file.name)
                    if not path.stat().st_size:
                        path.unlink()
                self.file = None
            self.stage = ""


def slug(stage: str) -> str:
    """A stage may be the name of a benchmark."""
    return re.sub(r"[^\w.-]", "_", stage)
