"""The policy's weights out of a checkpoint, whole or in shards, and nothing else of it."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from luffy_pl.errors import ModelError, StorageError, first_line
from luffy_pl.run_dir.checkpoints import (
    FOLDER,
    SavedPhase,
    check_hashes,
    checkpoint_folders,
    phase_of,
    what_is_missing,
)

PREFIX = "policy.language_model."
"""Names of the policy's weights in a state dict of the LightningModule."""


def find_checkpoint(run: Path, at: int | None) -> SavedPhase:
    """The newest whole checkpoint of a run, or that of a phase, its bytes as they were saved."""
    folder = run / FOLDER
    there = [path for path in checkpoint_folders(folder) if what_is_missing(path) is None]
    wanted = [path for path in there if at is None or phase_of(path) == at]
    if not wanted:
        raise StorageError(
            str(run),
            "holds no checkpoint" if at is None else f"holds no checkpoint of phase {at}",
            fix=f"there are {', '.join(path.name for path in there)}"
            if there
            else "give the folder of a run",
        )
    check_hashes(wanted[-1])
    return SavedPhase(wanted[-1], phase_of(wanted[-1]))


def policy_state(checkpoint: Path) -> dict[str, Tensor]:
    """Each weight under the name that the model gives it, on the CPU."""
    try:
        weights = from_shards(checkpoint) if checkpoint.is_dir() else from_file(checkpoint)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        raise ModelError(
            str(checkpoint),
            f"cannot be read as a checkpoint ({first_line(error)})",
            fix="give another phase; checkpoints/ holds the earlier ones",
        ) from error
    if not weights:
        raise ModelError(
            str(checkpoint), "holds no policy", fix="give a checkpoint that luffy-pl wrote"
        )
    return weights


def from_file(file: Path) -> dict[str, Tensor]:
    """Mapped, so that the optimizer's state is never read."""
    content = torch.load(file, mmap=True, weights_only=True, map_location="cpu")
    return of_policy(content["state_dict"])


def from_shards(folder: Path) -> dict[str, Tensor]:
    """The weights alone, put together from all shards, without any process group."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = FileSystemReader(folder)
    stored: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in reader.read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata) and name.startswith(f"state_dict.{PREFIX}")
    }
    load(stored, storage_reader=reader, no_dist=True)
    return of_policy({name.removeprefix("state_dict."): value for name, value in stored.items()})


def of_policy(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the policy."""
    return {
        name.removeprefix(PREFIX): weight
        for name, weight in state_dict.items()
        if name.startswith(PREFIX)
    }
