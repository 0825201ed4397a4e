"""Items made one by one, on demand, as a loader Lightning can resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class SizedStream:
    """`length` items made on demand from their number; continues where a checkpoint stood."""

    def __init__(self, length: int, make: Callable[[int], Any]) -> None:
        self.length, self.make = length, make
        self.first = self.next = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        # Lightning never asks past the last item, so nothing may be left for after the loop.
        first, self.first = self.first, 0
        for number in range(first, self.length):
            item = self.make(number)
            # Only now: a run that is stopped while it makes an item has to make it again.
            self.next = number + 1
            yield item

    def state_dict(self) -> dict[str, int]:
        """The number of the next item."""
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the number a checkpoint holds."""
        self.first = self.next = state["next"]
