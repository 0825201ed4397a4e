"""The trainer's weights as an engine takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luffy_pl.policy.lora import merged_weights, plain_weights
from luffy_pl.policy.saved_names import Conversion, converted


@dataclass(frozen=True)
class PolicyWeights:
    """Each weight under its checkpoint name, whole, one after the other.

    A state dict repeats a tied head, which `named_parameters` leaves out: an engine that packs
    its head separately would go on sampling from the old one. Sharded weights are gathered while
    iterating, so with several ranks every rank must exhaust the iterator. Adapters are merged into
    the weights they are for: an engine sees the names of the base, and no adapter.

    Args:
        lora_scale: factor of adapters; None where there are none.
        is_repeatable: whether this process alone can iterate again, later, and get the same
            weights. An engine that breaks can then be replaced. False where several ranks gather
            the weights together, or where training goes on while the engine samples.
        conversion: to the names and pieces of a checkpoint, where the model has others.
        dtype: the engine's, into which matrices are cast before they are gathered; None: their own.
    """

    state_dict: Mapping[str, Any]
    prefix: str
    lora_scale: float | None = None
    is_repeatable: bool = False
    conversion: Conversion | None = None
    dtype: torch.dtype | None = None

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yield from converted(self.in_model(), self.conversion)

    def in_model(self) -> Iterator[tuple[str, Tensor]]:
        """The same under the names, and in the pieces, of the model."""
        yield from merged_weights(self._own(), scale=self.lora_scale, dtype=self.dtype)

    def outlines(self) -> Iterator[tuple[str, Tensor]]:
        """The weights in the order of iteration, whole and without numbers; gathers nothing."""
        plain = (
            (name, torch.empty(weight.shape, dtype=weight.dtype, device="meta"))
            for name, weight, _ in plain_weights(self._own())
        )
        yield from converted(plain, self.conversion)

    def frozen_names(self) -> frozenset[str]:
        """Names of weights that stay as they were loaded: beside adapters, all that have none.

        Those that are cast for the engine are left out: they are new tensors each time.
        """
        if self.lora_scale is None or self.conversion is not None:
            return frozenset()
        return frozenset(
            name
            for name, weight, adapter in plain_weights(self._own())
            if adapter is None and self.dtype in (None, weight.dtype)
        )

    def _own(self) -> dict[str, Any]:
        return {
            name.removeprefix(self.prefix): weight
            for name, weight in self.state_dict.items()
            if name.startswith(self.prefix)
        }
