"""Whether a file is a state of ours, before anything is built for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from luffy_pl.errors import ConfigError, ModelError, first_line


def read_checkpoint(path: str) -> Mapping[str, Any] | None:
    """What a checkpoint says of its run; None for a place in a remote store.

    Weights are mapped, not read: a damaged byte among them would not be found.

    Raises:
        ModelError: the file is cut off, or no checkpoint of ours.
    """
    content = _content(path)
    state: Mapping[str, Any] | None = content and content["luffy_pl"]
    return state


def read_data_state(path: str) -> Mapping[str, Any]:
    """What a checkpoint says of the prompts of its run; nothing of a place in a remote store."""
    state: Mapping[str, Any] = (_content(path) or {}).get("LuffyDataModule", {})
    return state


def _content(path: str) -> Mapping[str, Any] | None:
    """A checkpoint, its weights not read; None for a place in a remote store."""
    if not Path(path).exists():
        return None
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
    return content


def check_adapters(
    state: Mapping[str, Any] | None, lora: Mapping[str, Any] | None, *, path: str
) -> None:
    """Refuse other adapters than those of a checkpoint, which would not load.

    Args:
        lora: `model.policy.lora`.
    """
    saved, here = (state or {}).get("lora"), None if lora is None else dict(lora)
    if state is not None and saved != here:
        raise ConfigError(
            "model.policy.lora",
            f"is not that of {path}",
            value=here,
            fix=f"use {'null' if saved is None else saved}, as in config.yaml of its run",
        )


def check_continues(state: Mapping[str, Any] | None, config: Any, *, path: str) -> None:
    """Refuse settings that would have no effect in a run that goes on from a checkpoint."""
    if state is None:
        return
    model, num_phases = config.model, config.data.rollout.num_phases
    check_adapters(state, model.policy.lora, path=path)
    if state["phases_trained"] > num_phases:
        raise ConfigError(
            "data.rollout.num_phases",
            f"is below the {state['phases_trained']} phases that {path} has trained",
            value=num_phases,
            fix=f"use {state['phases_trained']} or more",
        )
    had_sft, has_sft = (of["sft"] is not None for of in (state["optimizer"], model.optimizer))
    if had_sft != has_sft:
        raise ConfigError(
            "model.optimizer.sft",
            f"would be an optimizer that {path} {'has' if had_sft else 'does not have'}",
            value="on" if has_sft else None,
            fix="leave it as it was, or start a new --run_dir",
        )
    had = list(state.get("following", ()))
    has = [name for name, one in model.frozen.items() if one.follows]
    if set(had) != set(has):
        raise ConfigError(
            "model.frozen",
            f"follows the policy through the run, and {path} holds {', '.join(had) or 'no model'}",
            value=", ".join(has) or None,
            fix="leave it as it was, or start a new --run_dir",
        )
    for name in ("entropy", "kl"):
        check_controlled(name, state["objective"][name], model.objective[name], path=path)


def check_controlled(name: str, before: Mapping[str, Any], now: Any, *, path: str) -> None:
    """Refuse another start for a coefficient that its controller has moved since."""
    begins = now.get("controller") != "ratio"  # the only one that reads `coef` at each step
    moved = before["target_nats"] is not None and now.target_nats is not None
    if begins and moved and before["coef"] != now.coef:
        raise ConfigError(
            f"model.objective.{name}.coef",
            f"is where the controller of {name}.target_nats began, and {path} continues from where "
            "it has come to",
            value=now.coef,
            fix=f"use {before['coef']}, or start a new --run_dir",
        )
