"""Whether a file is a state of ours, before anything is built for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from luffy_pl.errors import ConfigError, ModelError, first_line


def check_state(path: str | None, lora: Mapping[str, Any] | None) -> None:
    """Refuse a file that is cut off or no checkpoint of ours, before anything is built for it.

    Weights are mapped, not read: a damaged byte among them would not be found.

    Args:
        lora: `model.policy.lora`; other adapters than the checkpoint's would not load.
    """
    if path is None or not Path(path).exists():  # a place in a remote store
        return
    # The part of a sharded checkpoint that is not weights.
    file = Path(path) / "meta.pt" if Path(path).is_dir() else Path(path)
    try:
        content = torch.load(file, mmap=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise ModelError(
            str(path),
            f"cannot be read as a checkpoint ({first_line(error)})",
            fix="give another; checkpoints/phase-* of a run are the earlier ones",
        ) from error
    if not isinstance(content, dict) or "luffy_pl" not in content:
        raise ModelError(
            str(path),
            "is no checkpoint of luffy-pl",
            fix="give checkpoints/last.ckpt of a run; a model folder belongs in model.policy.path",
        )
    saved, here = content["luffy_pl"].get("lora"), None if lora is None else dict(lora)
    if saved != here:
        raise ConfigError(
            "model.policy.lora",
            f"is not that of {path}",
            value=here,
            fix=f"use {'null' if saved is None else saved}, as in config.yaml of its run",
        )
