"""What this machine reaches when nothing else is asked of it: the limits benches stand beside."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from luffy_pl.policy.product import product

REPEATS = 9
WARM_UP = 2


def median_seconds(run: Callable[[], object], *, steps: int) -> tuple[float, float]:
    """CPU and wall-clock seconds of a call: medians of `steps`, after `WARM_UP` more."""
    timed = [seconds(run) for _ in range(WARM_UP + steps)][WARM_UP:]
    return median(cpu_s for cpu_s, _ in timed), median(wall_s for _, wall_s in timed)


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall-clock seconds of one call."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - started_cpu_s, time.perf_counter() - started_s


def fastest(run: Callable[[], object]) -> float:
    """CPU seconds of the fastest of `REPEATS` calls: other processes can only slow one down."""
    times_s = []
    for _ in range(REPEATS):
        started_s = time.process_time()
        run()
        times_s.append(time.process_time() - started_s)
    return min(times_s)


def gemm_flops(size: int = 768) -> float:
    """Floating-point operations per s of a float32 product of square matrices."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / fastest(lambda: product(left, right))


def copy_bytes_per_s(size: int = 2**26) -> float:
    """Bytes per s read, and as many written, by a copy of `size` bytes, which no cache holds."""
    source, target = torch.ones(size // 4), torch.ones(size // 4)
    return size / fastest(lambda: target.copy_(source))
