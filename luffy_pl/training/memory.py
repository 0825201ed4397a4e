"""Memory in training: keep it for the next micro-batch, measure it, explain when it runs out."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from luffy_pl.errors import DeviceMemoryError

GIB = 1 << 30
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""Unit of ru_maxrss."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Let this process keep up to a GiB of host memory that tensors have freed.

    glibc returns freed memory to the kernel, so that the next micro-batch faults it in again page
    by page, and PyTorch has no cache of its own on a CPU. Tensors above 32 MiB, the largest limit
    that glibc accepts, are still returned.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, GIB)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host through torch, had no memory left."""
    by_torch = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return by_torch or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


@contextmanager
def memory_advice(token_budget: Callable[[], int]) -> Iterator[None]:
    """Turn an out-of-memory error into one line: the memory used, and which setting to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        tokens = token_budget()
        raise DeviceMemoryError(
            "model.optimizer.micro_batch_tokens",
            f"{tokens} tokens do not fit into memory ({used()})",
            fix=f"set it to {max(1, tokens // 2)}, model.policy.activation_checkpointing: "
            "true, or lower data.engine.gpu_memory_utilization",
        ) from error


def used() -> str:
    """Peak memory of this process on its device, for a message."""
    if torch.cuda.is_available():
        peak, of = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
        return f"peak {peak / GIB:.1f} of {of / GIB:.1f} GiB on the GPU"
    return f"peak {peak_bytes() / GIB:.1f} GiB on the host"


def peak_bytes() -> int:
    """Peak host memory of this process."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux
        return MAXRSS_BYTES * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not ru_maxrss: that begins with what the process that started this one had.
    return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
