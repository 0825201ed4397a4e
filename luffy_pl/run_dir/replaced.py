"""`--overwrite` keeps the earlier run until the new one has trained a phase.

A wrong setting, a missing file or an engine that does not start must not cost the earlier run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luffy_pl.run_dir.checkpoints import remove

ASIDE = ".replaced"


def set_aside(run_dir: Path, names: Sequence[str]) -> None:
    """Move these files of the earlier run out of the way, within its folder."""
    bring_back(run_dir, names)  # what a start that was killed had set aside
    aside = run_dir / ASIDE
    aside.mkdir()
    for name in names:
        if (run_dir / name).exists():
            (run_dir / name).rename(aside / name)


def bring_back(run_dir: Path, names: Sequence[str]) -> None:
    """Put what was set aside, if anything was, in place of what the new run has written."""
    aside = run_dir / ASIDE
    if not aside.is_dir():
        return
    for name in names:
        remove(run_dir / name)
        if (aside / name).exists():
            (aside / name).rename(run_dir / name)
    aside.rmdir()


def forget(run_dir: Path) -> None:
    """Delete the earlier run: the new one has taken its place."""
    remove(run_dir / ASIDE)
