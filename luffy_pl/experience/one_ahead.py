"""Collecting the next phase while this one trains."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")

CANCEL_S = 30.0
"""Seconds for what is being made to notice that it is not wanted any more."""


class Cancelled(BaseException):
    """What was being made is no longer wanted. It is no Exception, which a maker would handle."""


class OneAhead(Generic[Item]):
    """Items made from their number, in order; taking one begins the next on a thread of its own.

    Never more than one is begun: an item is made from what the world was when the one before it
    was taken, and from nothing older.
    """

    def __init__(self, make: Callable[[int], Item], length: int) -> None:
        self._make, self._length = make, length
        self._begun: _Begun[Item] | None = None
        self._is_cancelled = False

    def take(self, number: int) -> Item:
        """The item, made now if it was not begun; raises what its making raised."""
        begun, self._begun = self._begun, None
        if begun is not None and begun.number == number:
            item = begun.result()
        else:
            item = self._make(number)
        if number + 1 < self._length:
            self._begun = _Begun(self._make, number + 1)
        return item

    def wait(self) -> None:
        """Return when nothing is being made."""
        if self._begun is not None:
            self._begun.thread.join()

    def check(self) -> None:
        """Called by the maker now and then; raises `Cancelled` where the item is not wanted."""
        if self._is_cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Give up what is being made."""
        begun, self._begun = self._begun, None
        if begun is not None:
            self._is_cancelled = True
            begun.thread.join(CANCEL_S)
            self._is_cancelled = begun.thread.is_alive()


class _Begun(Generic[Item]):
    """One item on its way."""

    def __init__(self, make: Callable[[int], Item], number: int) -> None:
        self.number = number
        self._make = make
        self._item: Item
        self._error: BaseException | None = None
        # A new thread would compute on GPU 0, whichever the rank has.
        self._gpu = torch.cuda.current_device() if torch.cuda.is_available() else None
        # A daemon: a run that ends by an error does not wait for an engine.
        self.thread = threading.Thread(target=self._run, name="next-phase", daemon=True)
        self.thread.start()

    def result(self) -> Item:
        """The item, or its error."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        return self._item

    def _run(self) -> None:
        try:
            if self._gpu is not None:
                torch.cuda.set_device(self._gpu)
            self._item = self._make(self.number)
        except BaseException as error:  # noqa: BLE001  raised where the item is taken
            self._error = error
