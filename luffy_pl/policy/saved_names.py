"""Weights under the names and in the pieces of a checkpoint, where a model keeps them otherwise.

transformers fuses some weights when it loads them, such as the experts of a layer, and takes them
apart when it saves a model. Engines read files, so they are given what would be saved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Conversion = Callable[[dict[str, Tensor]], dict[str, Tensor]]
LAYER = re.compile(r".*?\.\d+\.")


def saved_conversion(model: PreTrainedModel) -> Conversion | None:
    """What makes weights of the model those of a checkpoint; None where they are already."""
    from transformers.core_model_loading import revert_weight_conversion

    convert = partial(revert_weight_conversion, model)
    own = {
        name: torch.empty(weight.shape, device="meta")
        for name, weight in model.state_dict().items()
    }
    return convert if convert(own).keys() != own.keys() else None


def converted(
    weights: Iterable[tuple[str, Tensor]], conversion: Conversion | None
) -> Iterator[tuple[str, Tensor]]:
    """Weights as they are saved, with those of one layer in memory at once.

    Args:
        weights: in the order of the model, one layer after the other.
    """
    if conversion is None:
        yield from weights
        return
    for _, part in groupby(weights, key=lambda named: _layer(named[0])):
        yield from conversion(dict(part)).items()


def _layer(name: str) -> str:
    """What has to be converted together: a layer, or a weight that is in none."""
    found = LAYER.match(name)
    return found[0] if found else name
