"""`sweep.jsonl`: what happened to each cell, so that a sweep can be killed and go on.

One line per event, appended and synced to disk before the sweep does anything else:

    {"event": "started" | "finished" | "failed" | "interrupted", "cell": name,
     "fingerprint": of the cell's arguments, "time": seconds since 1970,
     "seconds": of this attempt, "exit_code": of the process, "reference": of the launcher's job}
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from luffy_pl.errors import ConfigError
from luffy_pl.run_dir.fields import Fields, is_number, is_text, or_null
from luffy_pl.run_dir.read import read_lines
from luffy_pl.sweep.plan import Cell

Event = Literal["started", "finished", "failed", "interrupted"]
JOURNAL = "sweep.jsonl"
CHECKPOINT = "checkpoints/last.ckpt"
EVENT = Fields(
    {
        "event": is_text,
        "cell": is_text,
        "fingerprint": is_text,
        "seconds": or_null(is_number),
        "exit_code": or_null(is_number),
        "reference": or_null(is_text),
    }
)


@dataclass(frozen=True)
class CellStatus:
    """The last event of a cell; `reference` is set while a job may still be running."""

    event: Event
    fingerprint: str
    seconds: float = 0.0
    exit_code: int | None = None
    reference: str | None = None


def read_state(run_dir: Path) -> dict[str, CellStatus]:
    """Cell to last event; a line that a kill cut off counts as not written."""
    path = run_dir / JOURNAL
    state = {}
    for line in read_lines(path, EVENT) if path.exists() else []:
        if line["event"] in get_args(Event):
            state[line["cell"]] = CellStatus(
                line["event"],
                line["fingerprint"],
                line.get("seconds") or 0.0,
                line.get("exit_code"),
                line.get("reference"),
            )
    return state


def append(
    run_dir: Path,
    event: Event,
    cell: Cell,
    *,
    seconds: float | None = None,
    exit_code: int | None = None,
    reference: str | None = None,
) -> None:
    """Add one event; on return it is on disk."""
    line = {
        "event": event,
        "cell": cell.name,
        "fingerprint": cell.fingerprint,
        "time": round(time.time(), 3),
        "seconds": None if seconds is None else round(seconds, 3),
        "exit_code": exit_code,
        "reference": reference,
    }
    text = json.dumps({key: value for key, value in line.items() if value is not None})
    with (run_dir / JOURNAL).open("ab+") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a kill cut the last line off
                text = "\n" + text
        file.write(text.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def check_unchanged(cells: Iterable[Cell], state: Mapping[str, CellStatus]) -> None:
    """A finished cell still is what its name says."""
    for cell in cells:
        status = state.get(cell.name)
        if status and status.event == "finished" and status.fingerprint != cell.fingerprint:
            raise ConfigError(
                f"cell {cell.name}",
                f"its arguments, configuration files or plugins have changed since it finished in "
                f"{cell.run_dir.parent}",
                fix="undo the change, rename the label, or give the sweep another run_dir",
            )


def how_to_go_on(cell: Cell, status: CellStatus | None) -> tuple[str, ...]:
    """The option that continues, or replaces, an earlier attempt of ours.

    A run that no sweep has started is not ours: without option, `fit` refuses to touch it.
    """
    if status is None or cell.arguments[0] != "fit":
        return ()
    if (
        status.event in ("started", "interrupted")
        and status.fingerprint == cell.fingerprint
        and (cell.run_dir / CHECKPOINT).exists()
    ):
        return ("--resume=true",)
    return ("--overwrite=true",)


def typical_seconds(state: Mapping[str, CellStatus]) -> float | None:
    """Median time of the finished cells."""
    times = [status.seconds for status in state.values() if status.event == "finished"]
    return median(times) if times else None
