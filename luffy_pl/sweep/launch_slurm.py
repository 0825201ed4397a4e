"""Cells as a SLURM job array, through submitit.

The compute nodes need the same folder and the same Python environment. Jobs outlive a killed
sweep; the next one finds them by the reference in sweep.jsonl and waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.errors import ConfigError, first_line
from luffy_pl.sweep.grid import SlurmResources
from luffy_pl.sweep.process import CellJob, Ended, Watch, run

CLUSTER = "slurm"
POLL_S = 5.0
CANCEL_S = 60.0
WITH_PREFIX = ("partition", "account", "qos", "constraint")


def launch(
    jobs: Sequence[CellJob],
    *,
    max_parallel: int,
    watch: Watch,
    resources: SlurmResources,
    folder: Path,
) -> None:
    """Submit all jobs at once, `max_parallel` of them at a time; an interrupt cancels them."""
    executor = make_executor(folder)
    executor.update_parameters(**slurm_parameters(resources, max_parallel))
    running = {
        job.cell: (job, found, time.monotonic())
        for job in jobs
        if (found := submitted_earlier(job, folder)) is not None
    }
    new = [job for job in jobs if job.cell not in running]
    try:
        for job, submitted in zip(new, executor.map_array(run, new) if new else [], strict=True):
            running[job.cell] = (job, submitted, time.monotonic())
            watch.started(job, submitted.job_id)
        while running:
            for job, submitted, since in list(running.values()):
                if submitted.done():
                    del running[job.cell]
                    watch.ended(job, outcome(submitted, since))
            time.sleep(POLL_S if running else 0)
    finally:
        cancel(running.values(), watch)


def cancel(running: Iterable[tuple[CellJob, Any, float]], watch: Watch) -> None:
    """Cancel jobs; one that does not end in time stays in the journal, to be waited for."""
    left = list(running)
    for _, submitted, _ in left:
        submitted.cancel(check=False)
    deadline = time.monotonic() + CANCEL_S
    while left and time.monotonic() < deadline:
        for job, submitted, since in left:
            if submitted.done():
                watch.ended(job, Ended(None, time.monotonic() - since))
        left = [entry for entry in left if not entry[1].done()]
        time.sleep(POLL_S if left else 0)


def make_executor(folder: Path) -> Any:
    """The executor that writes its scripts and logs into `folder`."""
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "launcher",
            "submitit is not installed",
            value="slurm",
            fix="pip install 'luffy-pl[sweep-slurm]'",
        ) from error
    try:
        return submitit.AutoExecutor(folder, cluster=CLUSTER)
    except RuntimeError as error:
        raise ConfigError("launcher", first_line(error), value="slurm",
                          fix="start the sweep where sbatch is") from error  # fmt: skip


def submitted_earlier(job: CellJob, folder: Path) -> Any:
    """The job of a sweep that was killed, unless it has ended without a result."""
    import submitit

    if job.reference is None:
        return None
    kind = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[CLUSTER]
    found = kind(folder, job.reference)
    return None if found.done() and not found.paths.result_pickle.exists() else found


def slurm_parameters(resources: SlurmResources, max_parallel: int) -> dict[str, Any]:
    """The resources by the names that submitit uses."""
    named = {f"slurm_{name}": getattr(resources, name) for name in WITH_PREFIX}
    asked = {
        "name": "luffy-pl",
        "timeout_min": resources.minutes,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus,
        "mem_gb": resources.memory_gb,
        "slurm_array_parallelism": max_parallel,
        **named,
    }
    return {name: value for name, value in asked.items() if value is not None}


def outcome(submitted: Any, since: float) -> Ended:
    """What the job returned; none if it was cancelled, preempted or ran out of time."""
    if not submitted.paths.result_pickle.exists():
        return Ended(None, time.monotonic() - since)
    return submitted.result()
