"""Dropout and other noise of training, which a policy has not.

Ratios of probabilities compare the policy with itself and with an engine that draws nothing: noise
would be read as a change of the policy. So a policy computes as its model does in evaluation mode,
whatever its own mode is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def stay_in_evaluation(model: PreTrainedModel, *, trains: bool) -> None:
    """Set the mode of every module; layers are only recomputed in training mode, and have it."""
    model.eval()
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = trains


def turn_off_dropout(model: PreTrainedModel) -> list[str]:
    """Set every share to be dropped to 0, for layers in training mode; returns the names."""
    configured = [
        prefix + name for prefix, config in _configs(model.config) for name in _set_to_zero(config)
    ]
    # Modules hold copies, and perhaps more; the user knows the configuration's names.
    inside: dict[str, None] = {}
    for module in model.modules():
        kind = type(module).__name__
        if isinstance(module, _DropoutNd) and module.p > 0:
            module.p = 0.0
            inside[kind] = None
        inside |= dict.fromkeys(f"{kind}.{name}" for name in _set_to_zero(module))
    return configured or list(inside)


def _set_to_zero(owner: nn.Module | PretrainedConfig) -> list[str]:
    found = [
        name
        for name, value in vars(owner).items()
        if isinstance(value, float) and value > 0 and "drop" in name
    ]
    for name in found:
        setattr(owner, name, 0.0)
    return found


def _configs(config: PretrainedConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The configuration and those inside, each with the beginning of its fields' names."""
    yield prefix, config
    for name in config.sub_configs:
        if (inner := getattr(config, name, None)) is not None:
            yield from _configs(inner, f"{prefix}{name}.")
