"""Cells as Ray tasks, on this machine or on the cluster that RAY_ADDRESS names.

Workers need the same folder and an installed luffy-pl.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from luffy_pl.errors import ConfigError
from luffy_pl.sweep.grid import RayResources
from luffy_pl.sweep.process import GRACE_S, CellJob, Ended, Watch, run


def launch(
    jobs: Sequence[CellJob], *, max_parallel: int, watch: Watch, resources: RayResources, ray: Any
) -> None:
    """Run all jobs, `max_parallel` at a time; an interrupt cancels those that run."""
    # A lost worker is an interrupted cell: Ray must not start it again behind our back.
    task = ray.remote(run).options(
        num_cpus=resources.num_cpus, num_gpus=resources.num_gpus, max_retries=0
    )
    waiting = deque(jobs)
    running: dict[Any, tuple[CellJob, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max_parallel:
                job = waiting.popleft()
                watch.started(job)
                running[task.remote(job)] = (job, time.monotonic())
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                job, since = running.pop(reference)
                watch.ended(job, outcome(ray, reference, since))
    finally:
        cancel(ray, list(running))
        for job, since in running.values():
            watch.ended(job, Ended(None, time.monotonic() - since))


def cancel(ray: Any, references: list[Any]) -> None:
    """Interrupt the tasks; one that does not end loses its worker, and the cell dies with that."""
    for reference in references:
        ray.cancel(reference)
    if references:
        _, stuck = ray.wait(references, num_returns=len(references), timeout=GRACE_S + 5)
        for reference in stuck:
            ray.cancel(reference, force=True)


def connect() -> Any:
    """The ray module, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "launcher", "Ray is not installed", value="ray", fix="pip install 'luffy-pl[sweep-ray]'"
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                "RAY_ADDRESS",
                "no Ray cluster answers there",
                value=os.environ.get("RAY_ADDRESS"),
                fix="correct it, or unset it to use this machine",
            ) from error
    return ray


def outcome(ray: Any, reference: Any, since: float) -> Ended:
    """What the task returned; none if its worker was lost or the task cancelled."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        return Ended(None, time.monotonic() - since)
