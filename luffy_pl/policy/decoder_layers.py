"""The layers of a language model, whatever its family calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from luffy_pl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Those that the decoder goes through one by one.

    Raises:
        ModelError: they cannot be told from its other modules.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    usual = getattr(model.base_model, "layers", None)
    found = [usual] if usual is not None else [
        module
        for module in model.get_decoder().modules()
        if isinstance(module, nn.ModuleList)
        and len(module) > 0
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]  # fmt: skip
    if len(found) != 1:
        raise ModelError(
            "model.policy.path",
            "its layers, which are sharded and compiled one by one, cannot be told from its other "
            "modules",
            value=type(model).__name__,
            fix="train it on one rank, with compile: false",
        )
    return found[0]
