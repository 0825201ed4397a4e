"""What a device holds and how fast it is: data sheets, or this machine measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One device.

    memory: bytes that a process can have. flops_bf16, flops_fp32: dense multiply-adds per second,
    times two. bytes_per_s: of its memory.
    """

    name: str
    memory: float
    flops_bf16: float
    flops_fp32: float
    bytes_per_s: float


# NVIDIA's data sheets of the SXM modules, dense; memory as CUDA reports it.
A100 = Device("a100-80g", 79.1 * GIB, 312e12, 19.5e12, 2.04e12)
H100 = Device("h100-80g", 79.1 * GIB, 989e12, 67e12, 3.35e12)
GPUS = {device.name: device for device in (A100, H100)}
CPU = "cpu"


def this_cpu(*, ranks: int) -> Device:
    """One core of this machine, its rates measured (about a second), and a rank's share of memory.

    bfloat16 counts as float32: without units for it, it is converted.
    """
    from luffy_pl.bench.machine import copy_bytes_per_s, gemm_flops

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / ranks
    flops = gemm_flops()
    return Device(CPU, memory, flops, flops, copy_bytes_per_s())
