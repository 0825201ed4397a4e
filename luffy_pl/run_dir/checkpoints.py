"""Checkpoints on disk: one that has its name is whole.

<run_dir>/checkpoints/
    phase-000120/state.ckpt      what Lightning saves: a file, or a folder of shards
    phase-000120/manifest.json   sizes and hashes of all files, phase, ranks, versions; written last
    last -> phase-000120         and best, where checkpoint.best is set
    last.ckpt -> last/state.ckpt

A checkpoint is written as `.partial-phase-000120`, synced to the disk, described by its manifest,
and then renamed: a process that is killed at any moment leaves the previous one as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luffy_pl.errors import StorageError
from luffy_pl.process.faults import fault
from luffy_pl.run_dir.fields import CHECKPOINT_MANIFEST

FOLDER, STATE, MANIFEST = "checkpoints", "state.ckpt", "manifest.json"
LAST, BEST, LAST_STATE = "last", "best", "last.ckpt"
NAME = re.compile(r"phase-(\d+)")
PACKAGES = ("luffy-pl", "lightning", "torch", "transformers")


@dataclass(frozen=True)
class SavedPhase:
    """A checkpoint that is whole."""

    path: Path
    phase: int

    @property
    def state(self) -> Path:
        """What Lightning loads."""
        return self.path / STATE


@dataclass(frozen=True)
class Hashed:
    """A file of a checkpoint by its name within it."""

    name: str
    num_bytes: int
    sha256: str


def partial_path(folder: Path, phase: int) -> Path:
    """Where a checkpoint is written, on every rank the same."""
    return folder / f".partial-phase-{phase:06d}"


def begin(folder: Path, phase: int, *, num_bytes: int) -> None:
    """Make room for a checkpoint of about `num_bytes`; what a killed save left is removed.

    Raises:
        OSError: the disk is too full, or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".partial-*"):
        remove(left)
    check_free(folder, num_bytes)
    partial_path(folder, phase).mkdir()


def check_free(folder: Path, num_bytes: int) -> None:
    """Raise an OSError if a file system has less than `num_bytes` left."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB free, {num_bytes / 1e9:.1f} GB are needed")


def files_of(path: Path) -> list[Path]:
    """All files of a checkpoint but its manifest, in a fixed order."""
    return sorted(f for f in path.rglob("*") if f.is_file() and f != path / MANIFEST)


def sync_and_hash(path: Path, files: Sequence[Path]) -> list[Hashed]:
    """Force files to the disk and read them back once."""
    found = []
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        found.append(Hashed(str(file.relative_to(path)), file.stat().st_size, digest))
    return found


def publish(folder: Path, phase: int, files: Sequence[Hashed], about: dict[str, Any]) -> SavedPhase:
    """Write the manifest, give the checkpoint its name, and point `last` to it."""
    partial, target = partial_path(folder, phase), folder / f"phase-{phase:06d}"
    manifest = {
        "format": 1,
        "phase": phase,
        **about,
        "versions": {name: version(name) for name in PACKAGES},
        "files": {f.name: {"bytes": f.num_bytes, "sha256": f.sha256} for f in files},
    }
    die_if_asked(1)
    with (partial / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    for inner in [partial, *(found for found in partial.rglob("*") if found.is_dir())]:
        sync_folder(inner)
    if target.exists():  # of a phase that is trained again; a folder is never written into
        target.rename(folder / f".partial-old-{phase:06d}")
    die_if_asked(2)
    partial.rename(target)
    sync_folder(folder)
    die_if_asked(3)
    for left in folder.glob(".partial-*"):
        remove(left)
    link(folder / LAST, target.name)
    link(folder / LAST_STATE, f"{LAST}/{STATE}")
    return SavedPhase(target, phase)


def die_if_asked(number: int) -> None:
    """For tests: before state (0), manifest (1), name (2), links (3)."""
    if fault("die_in_save", number):
        os.kill(os.getpid(), signal.SIGKILL)


def link(path: Path, target: str) -> None:
    """A symbolic link, replaced in one step."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def prune(folder: Path, *, keep: int, up_to: int) -> None:
    """Remove all but the newest `keep` checkpoints of phases up to `up_to`, and the best one.

    Later phases, of a run that went on from an earlier one, are replaced when they come.
    """
    best = (folder / BEST).resolve()
    older = [found for found in checkpoint_folders(folder) if phase_of(found) <= up_to]
    for path in older[:-keep]:
        if path.resolve() != best:
            remove(path)


def newest(folder: Path) -> tuple[SavedPhase | None, list[str]]:
    """The newest checkpoint that is whole, and of each later one why it is not.

    Manifest and sizes decide; `check_hashes` reads the bytes.
    """
    skipped: list[str] = []
    for path in reversed(checkpoint_folders(folder)):
        problem = what_is_missing(path)
        if problem is None:
            return SavedPhase(path, phase_of(path)), skipped
        skipped.append(f"{path.name}: {problem}")
    return None, skipped


def what_is_missing(path: Path) -> str | None:
    """Why a checkpoint is not whole; None if it is."""
    try:
        manifest = read_manifest(path)
    except (OSError, ValueError, RecursionError):
        return "it has no readable manifest.json"
    if (problem := CHECKPOINT_MANIFEST.misfit(manifest)) is not None:
        return f"its manifest.json {problem}"
    for name, wanted in manifest["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != wanted["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {wanted['bytes']}"
    return None


def check_hashes(path: Path) -> None:
    """Refuse a checkpoint of which a byte has changed; a file without manifest cannot be checked.

    Raises:
        StorageError: naming the file.
    """
    if not (path / MANIFEST).is_file():
        return
    for name, wanted in read_manifest(path)["files"].items():
        with (path / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted["sha256"]:
            raise StorageError(
                f"{path}/{name}",
                "is not what was saved: its sha256 differs from the manifest",
                value=found[:16],
                fix=f"remove {path}, and --resume continues from the one before",
            )


def read_manifest(path: Path) -> dict[str, Any]:
    """What is said of a checkpoint."""
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def state_of(path: str) -> str:
    """The part that Lightning loads of what a user names: a checkpoint, or already that part."""
    inner = Path(path) / STATE
    return str(inner) if inner.exists() else path


def run_of(state: str | Path) -> Path:
    """The folder of the run that wrote a state, by its place."""
    return Path(state).resolve().parent.parent.parent


def checkpoint_folders(folder: Path) -> list[Path]:
    """Everything that has a checkpoint's name, by phase."""
    found = [path for path in folder.glob("phase-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=phase_of)


def phase_of(path: Path) -> int:
    """Phases trained, by the name."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def remove(path: Path) -> None:
    """A file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Names are only on the disk when their folder is."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
