"""`luffy-pl status RUN`: how far a run is, and whether it lives.

A run writes `status.json` every few seconds, from a thread of its own: also while it hangs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import StorageError
from luffy_pl.process.alive import is_running
from luffy_pl.process.files import write_file
from luffy_pl.run_dir.checkpoints import FOLDER, newest
from luffy_pl.run_dir.fields import Fields, is_number, is_text

FILE = "status.json"
LATE_BEATS = 3
"""Heartbeats that may be missing before a run counts as gone."""

State = Literal["starting", "running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """What a run says of itself; times are seconds since 1970.

    stage, done, total: what it does now, and how far that is.
    moved: when that last made progress.
    """

    state: State
    pid: int
    host: str
    phase: int
    num_phases: int
    stage: str
    done: int
    total: int
    started: float
    moved: float
    written: float
    every_s: float

    def line(self, *, saved_phase: int, now: float) -> str:
        """For a person."""
        where = f"phase {self.phase}/{self.num_phases}"
        saved = f"saved: phase {saved_phase}"
        if self.state in ("starting", "running"):
            silent_s = now - self.written
            if silent_s > LATE_BEATS * self.every_s and not lives(self):
                return f"gone: silent for {silent_s:.0f} s, {where}, {self.stage}; {saved}"
            progress = f" {self.done}/{self.total}" if self.total else ""
            moved = f"moved {now - self.moved:.0f} s ago"
            process = f"process {self.pid} on {self.host}"
            return f"{self.state}: {where}, {self.stage}{progress}, {moved}; {saved}; {process}"
        return f"{self.state}: {where}; {saved}"


TEXTS = ("state", "host", "stage")
STATUS = Fields(
    {one.name: is_text if one.name in TEXTS else is_number for one in fields(RunStatus)}
)


def write_status(run_dir: Path, status: RunStatus) -> None:
    """Replace the file in one step."""
    write_file(run_dir / FILE, json.dumps(asdict(status), indent=2) + "\n")


def read_status(run_dir: Path) -> RunStatus:
    """What the run last said.

    Raises:
        StorageError: it never said anything.
    """
    path = run_dir / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if STATUS.misfit(found) is None:
            return RunStatus(**found)
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    raise StorageError(
        str(path), "cannot be read as the status of a run", fix="give the folder of a run"
    )


def lives(status: RunStatus) -> bool:
    """Whether its process does; unknown, and then no, on another machine."""
    if status.host != os.uname().nodename:
        return False
    return is_running(status.pid)


def main(argv: Sequence[str]) -> int:
    """One line for each run."""
    parser = CommandParser(prog="luffy-pl status", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="outputs/<name>")
    args = parser.parse_args(list(argv))
    for run in args.runs:
        saved, _ = newest(run / FOLDER)
        saved_phase = saved.phase if saved else 0
        line = read_status(run).line(saved_phase=saved_phase, now=time.time())
        sys.stdout.write(f"{run}: {line}\n" if len(args.runs) > 1 else f"{line}\n")
    return 0
