"""Copies to a device that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def on_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on a device, where it is when the device comes to use it.

    CUDA copies from pinned memory beside the host, and may make the host wait for any other copy.
    PyTorch keeps the pinned memory until the copy is done.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, non_blocking=True)
