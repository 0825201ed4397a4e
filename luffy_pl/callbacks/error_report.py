"""What ended a run, left in its folder: for whoever comes back in the morning, and for scripts."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import lightning as L

from luffy_pl.errors import LuffyError
from luffy_pl.process.files import storage_error, write_file
from luffy_pl.process.gpu_failure import gpu_failure, is_gpu_failure
from luffy_pl.process.interrupt import is_ending
from luffy_pl.process.rank_watch import is_of_a_collective, lost_each_other
from luffy_pl.registry import plugin_failure
from luffy_pl.training.module import LuffyModule

FILE = "error.json"
TRACEBACK = Path("logs") / "traceback.txt"


class ErrorReport(L.Callback):
    """Writes `error.json`, and the traceback to `logs/traceback.txt`."""

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """An error of an earlier start is none of this one."""
        if trainer.is_global_zero:
            (Path(trainer.default_root_dir) / FILE).unlink(missing_ok=True)

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """Every rank may write; the files hold what the last one met."""
        if isinstance(exception, Exception) and not is_ending():
            report(Path(trainer.default_root_dir), exception)


def report(run_dir: Path, error: Exception) -> None:
    """Write both files, and note in the error where its traceback is."""
    path = run_dir / TRACEBACK
    known = storage_error(error) or error
    write_file(run_dir / FILE, json.dumps(as_record(known), indent=2) + "\n")
    if write_file(path, "".join(traceback.format_exception(error))):
        error.add_note(f"traceback: {path}")


def report_unless_told(run_dir: Path, error: Exception) -> None:
    """Report that another rank is gone; one that failed has written why, and that stays."""
    if not (run_dir / FILE).exists():
        report(run_dir, error)


def as_record(error: Exception) -> dict[str, object]:
    """Plain values; the same fields whatever it was."""
    if is_gpu_failure(error) and not isinstance(error, LuffyError):
        error = gpu_failure(error, "the run failed")
    elif is_of_a_collective(error):
        error = lost_each_other(error)
    elif not isinstance(error, LuffyError):
        error = plugin_failure(error) or error
    known = isinstance(error, LuffyError)
    return {
        "exit_code": error.exit_code if known else 1,
        "kind": type(error).__name__,
        "where": error.where if known else None,
        "what": error.what if known else str(error),
        "value": None if not known or error.value is None else repr(error.value),
        "fix": error.fix if known else None,
    }
