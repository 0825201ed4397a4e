"""Cells as processes of this machine."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Sequence

from luffy_pl.sweep.process import POLL_S, CellJob, Ended, Watch, end, start_process


def launch(jobs: Sequence[CellJob], *, max_parallel: int, watch: Watch) -> None:
    """Run all jobs, `max_parallel` at a time; an interrupt ends those that run."""
    waiting = deque(jobs)
    running: dict[str, tuple[CellJob, subprocess.Popen[bytes], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max_parallel:
                job = waiting.popleft()
                # Told first: a kill in between leaves a cell that looks interrupted, not new.
                watch.started(job)
                running[job.cell] = (job, start_process(job), time.monotonic())
            for job, process, since in list(running.values()):
                if (exit_code := process.poll()) is not None:
                    del running[job.cell]
                    watch.ended(job, Ended(exit_code, time.monotonic() - since))
            time.sleep(POLL_S)
    finally:
        end(process for _, process, _ in running.values())
        for job, _, since in running.values():
            watch.ended(job, Ended(None, time.monotonic() - since))
