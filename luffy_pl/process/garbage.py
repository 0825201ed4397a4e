"""Python's collector, kept quiet while nothing is thrown away.

It looks through everything there is again and again as objects are added. Imports and rows of data
are no cycles and stay, so that in a start it finds nothing and takes a fifth of the time.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_alone() -> Iterator[None]:
    """Nothing is looked for in the block, or until `look_again`."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def keep_imports() -> None:
    """What there is by now stays to the end, and is never looked through.

    Once in a process: a second command would keep what the first one threw away.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def look_again() -> None:
    """From now on objects are thrown away."""
    gc.enable()


def keep_all_at_the_end() -> None:
    """Let a process end without looking through what ends with it: 3 s where vLLM was imported.

    What is registered first runs last, behind vLLM's own end, which takes everything back.
    """
    atexit.register(gc.freeze)
