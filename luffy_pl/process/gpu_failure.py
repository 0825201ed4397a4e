"""A GPU that failed: it stays failed for this process, whatever is tried, and a new one goes on."""

from __future__ import annotations

import torch

from luffy_pl.errors import EngineError, first_line


def is_gpu_failure(error: BaseException | None) -> bool:
    """Whether a GPU has failed, by the error or one that led to it; want of memory is no failure.

    A failure stays in the CUDA context: whatever this process asks of the GPU afterwards fails.
    """
    while error is not None:
        if isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def gpu_failure(error: BaseException, what: str) -> EngineError:
    """The line of it."""
    return EngineError(
        "trainer.accelerator",
        f"{what} ({first_line(error)}), and this process can use its GPU no more",
        fix="--resume continues from the last checkpoint in a new process; if it happens "
        "again, look at the GPU (dmesg, nvidia-smi)",
    )
