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
    # A signal may come when a process has begun and is not known here yet: it ends with the sweep.
    begun: dict[str, tuple[CellJob, float]] = {}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or processes:
            while waiting and len(processes) < max_parallel:
                job = waiting.popleft()
                # Told first: a kill in between leaves a cell that looks interrupted, not new.
                watch.started(job)
                begun[job.cell] = (job, time.monotonic())
                processes[job.cell] = start_process(job)
            for cell, process in list(processes.items()):
                if (exit_code := process.poll()) is not None:
                    del processes[cell]
                    job, since = begun.pop(cell)
                    watch.ended(job, Ended(exit_code, time.monotonic() - since))
            time.sleep(POLL_S)
    finally:
        end(processes.values())
        for job, since in begun.values():
            watch.ended(job, Ended(None, time.monotonic() - since))
