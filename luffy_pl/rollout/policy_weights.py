"""The trainer's weights as an engine takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class PolicyWeights:
    """Each weight under its checkpoint name, whole, one at a time.

    A state dict repeats a tied head, which `named_parameters` leaves out: an engine that packs
    its head separately would go on sampling from the old one. Sharded weights are gathered while
    iterating, so with several ranks every rank must exhaust the iterator.
    """

    state_dict: Mapping[str, Any]
    prefix: str

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self._own():
            whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
            yield name, whole.detach()

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and whole shapes in the order of iteration; gathers nothing."""
        return [(name, tuple(weight.shape)) for name, weight in self._own()]

    def _own(self) -> Iterator[tuple[str, Any]]:
        for name, weight in self.state_dict.items():
            if name.startswith(self.prefix):
                yield name.removeprefix(self.prefix), weight
