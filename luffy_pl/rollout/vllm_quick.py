"""What vLLM 0.32 does while it starts, that an engine on a CPU can do without; from outside.

Nothing that is computed changes. On the miniature's model these are 3 of 11 s of CPU time, and at
the first start of an installation 15 s more.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import TypeVar

Found = TypeVar("Found")


def name_callers_quickly() -> None:
    """Let torch take the module and line that define an operator from the frame that calls it.

    vLLM defines a hundred, and Python's `inspect` compares the file of each with those of all
    modules.
    """
    from torch import library
    from torch._library import utils

    own = ModuleType(inspect.__name__)
    vars(own).update(vars(inspect), getmodule=module_of)
    vars(library)["inspect"] = own
    utils.get_source = source_of_caller


def module_of(frame: FrameType) -> ModuleType | None:
    """The module whose code a frame runs."""
    return sys.modules.get(frame.f_globals.get("__name__", ""))


def source_of_caller(stacklevel: int) -> str:
    """File and line of a caller, as `torch._library.utils.get_source` writes them."""
    frame = sys._getframe(stacklevel)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@functools.cache
def start_quickly() -> None:
    """For engines on a CPU; on a GPU there are reasons for what is left out here."""
    count_plainly()
    inspect_here()


def count_plainly() -> None:
    """Count the tokens that are likelier than the sampled one without compiling that first.

    The compiled function saves a GPU some memory. Here torch takes a second to trace it.
    """
    from vllm.v1.sample import sampler

    counts = sampler.batched_count_greater_than
    sampler.batched_count_greater_than = getattr(counts, "__wrapped__", counts)


def inspect_here() -> None:
    """Look at a model's class in this process, and not in one that imports all of vLLM again.

    vLLM keeps what it finds, so that this is of the first start alone, and has a process for it to
    leave CUDA alone.
    """
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = in_this_process


def in_this_process(function: Callable[[], Found]) -> Found:
    """What the function returns."""
    return function()
