"""Run the cells that are to be run, keep the journal, say how far the sweep is."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGTERM, signal
from types import FrameType
from typing import NoReturn, Protocol

from luffy_pl.errors import StorageError, printable
from luffy_pl.process.environment import num_cores
from luffy_pl.process.interrupt import INTERRUPTED, TERMINATED
from luffy_pl.sweep import launch_local, launch_ray, launch_slurm, plan
from luffy_pl.sweep.grid import Grid
from luffy_pl.sweep.plan import Cell
from luffy_pl.sweep.process import CellJob, Ended, Watch
from luffy_pl.sweep.state import (
    CellStatus,
    Event,
    append,
    how_to_go_on,
    read_state,
    typical_seconds,
)

LAUNCHERS = ("local", "ray", "slurm")
CONSOLE = "console.log"
LINE_CHARACTERS = 200


class Launch(Protocol):
    """Runs jobs and tells the watch."""

    def __call__(self, jobs: Sequence[CellJob], *, max_parallel: int, watch: Watch) -> None:
        """Return when all have ended."""


class SweepProgress:
    """Writes the journal, and one line per event."""

    def __init__(
        self, cells: Sequence[Cell], *, grid: Grid, max_parallel: int, say: Callable[[str], None]
    ) -> None:
        self.cells = {cell.name: cell for cell in cells}
        self.grid, self.max_parallel, self.say = grid, max_parallel, say
        self.outcomes: dict[str, Ended] = {}

    def started(self, job: CellJob, reference: str | None = None) -> None:
        """Into the journal before anything runs."""
        append(self.grid.run_dir, "started", self.cells[job.cell], reference=reference)
        self.say(f"{job.cell}: started, {job.console}")

    def ended(self, job: CellJob, ended: Ended) -> None:
        """A process that was killed is interrupted: its checkpoint is as good as any."""
        self.outcomes[job.cell] = ended
        event = outcome_event(ended.exit_code)
        append(
            self.grid.run_dir,
            event,
            self.cells[job.cell],
            seconds=ended.seconds,
            exit_code=ended.exit_code,
        )
        self.say(
            f"{job.cell}: {event} after {duration(ended.seconds)}; "
            f"{len(self.outcomes)} of {len(self.cells)} ended, {self.left()}"
        )

    def left(self) -> str:
        """Estimate of the time that is left."""
        num_left = len(self.cells) - len(self.outcomes)
        seconds = seconds_per_cell(self.grid, read_state(self.grid.run_dir))
        if not num_left or seconds is None:
            return f"{num_left} left"
        return f"about {duration(total_seconds(num_left, seconds, self.max_parallel))} left"


def outcome_event(exit_code: int | None) -> Event:
    """Finished, failed of its own, or ended by a signal."""
    if exit_code == 0:
        return "finished"
    by_signal = exit_code is None or exit_code < 0 or exit_code in (INTERRUPTED, TERMINATED)
    return "interrupted" if by_signal else "failed"


def run_cells(
    grid: Grid, cells: Sequence[Cell], *, launcher: str, max_parallel: int
) -> dict[str, Ended]:
    """Run these cells; returns those that did not finish, after a line with their last words."""
    state = read_state(grid.run_dir)
    check_no_job_left(cells, state, launcher)
    progress = SweepProgress(cells, grid=grid, max_parallel=max_parallel, say=say)
    threads = num_threads(grid, launcher, max_parallel)
    jobs = [make_job(cell, state.get(cell.name), threads) for cell in cells]
    # Connects first: Ray would put its own handler of SIGTERM over ours.
    launch = find_launcher(grid, launcher)
    with sigterm_as_interrupt():
        launch(jobs, max_parallel=max_parallel, watch=progress)
    failed = {name: ended for name, ended in progress.outcomes.items() if ended.exit_code != 0}
    for cell in cells:
        if cell.name in failed:
            code = failed[cell.name].exit_code
            how = "ended from outside" if code is None else f"exit code {code}"
            say(f"{cell.name}: {how}: {last_line(cell.run_dir / CONSOLE)}")
    return failed


def find_launcher(grid: Grid, name: str) -> Launch:
    """The launcher of that name, with the grid's resources."""
    if name == "ray":
        return partial(launch_ray.launch, resources=grid.ray, ray=launch_ray.connect())
    if name == "slurm":
        folder = grid.run_dir.resolve() / "slurm"
        return partial(launch_slurm.launch, resources=grid.slurm, folder=folder)
    return launch_local.launch


def make_job(cell: Cell, status: CellStatus | None, threads: int) -> CellJob:
    """The cell's process; a number of threads that the user has set stays."""
    return CellJob(
        cell=cell.name,
        command=(*plan.PROGRAM, *cell.arguments, *how_to_go_on(cell, status)),
        folder=Path.cwd(),
        console=cell.run_dir.absolute() / CONSOLE,
        environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))},
        reference=status.reference if status else None,
    )


def num_threads(grid: Grid, launcher: str, max_parallel: int) -> int:
    """Threads of one cell: what it requests on another machine, its share of the cores here."""
    if launcher == "local":
        return max(1, num_cores() // max_parallel)
    return grid.ray.num_cpus if launcher == "ray" else grid.slurm.cpus


def check_no_job_left(
    cells: Sequence[Cell], state: Mapping[str, CellStatus], launcher: str
) -> None:
    """A job that a killed sweep left on a cluster is waited for, never run beside."""
    for cell in cells:
        status = state.get(cell.name)
        if status is None or status.reference is None:
            continue
        if launcher != "slurm" or status.fingerprint != cell.fingerprint:
            raise StorageError(
                f"cell {cell.name}",
                f"may still be running, unchanged, as SLURM job {status.reference}",
                fix="continue with --launcher slurm and the grid as it was",
            )


def seconds_per_cell(grid: Grid, state: Mapping[str, CellStatus]) -> float | None:
    """Measured, else as the grid says."""
    measured = typical_seconds(state)
    if measured is not None or grid.minutes_per_cell is None:
        return measured
    return 60 * grid.minutes_per_cell


def total_seconds(num_cells: int, seconds: float, max_parallel: int) -> float:
    """Duration of cells that run in rounds of `max_parallel`."""
    return math.ceil(num_cells / max_parallel) * seconds


def duration(seconds: float) -> str:
    """As a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def last_line(path: Path) -> str:
    """The last words of a console, without control characters."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "no console"
    spoken = [line.strip() for line in lines if line.strip()]
    text = spoken[-1] if spoken else "said nothing"
    safe = printable(text)
    return safe[:LINE_CHARACTERS]


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the sweep as Ctrl-C does: its processes first."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal(SIGTERM, interrupt)
    try:
        yield
    finally:
        signal(SIGTERM, before)
