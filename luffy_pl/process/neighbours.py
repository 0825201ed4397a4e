"""Groups of neighbouring ranks that talk on the host, without a device to wait for."""

from __future__ import annotations

from datetime import timedelta

import torch.distributed as dist


def neighbours(size: int, *, timeout: timedelta | None = None) -> dist.ProcessGroup:
    """The group of this rank, of `size` that follow each other; every rank calls this.

    Args:
        timeout: how long they wait for each other; None: torch's half an hour.
    """
    groups = [
        dist.new_group(list(range(first, first + size)), backend="gloo", timeout=timeout)
        for first in range(0, dist.get_world_size(), size)
    ]
    return groups[dist.get_rank() // size]
