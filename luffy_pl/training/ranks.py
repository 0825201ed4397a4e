"""What the ranks of a run share, as Lightning's strategy has set it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed import ProcessGroup

from luffy_pl.policy.offload import OffloadStrategy
from luffy_pl.policy.sharding import Sharding, meshes
from luffy_pl.process.neighbours import neighbours

if TYPE_CHECKING:
    import lightning as L
    from torch.distributed.device_mesh import DeviceMesh


def group_on_host(trainer: L.Trainer | None, mesh: DeviceMesh | None) -> ProcessGroup | None:
    """All ranks, which every rank asks for together; None for a process without others.

    Args:
        mesh: of the strategy, if it shards weights.
    """
    if trainer is None or (trainer.world_size == 1 and mesh is None):
        return None
    return neighbours(trainer.world_size)


def sharding_of(
    trainer: L.Trainer | None, mesh: DeviceMesh | None, *, replicas: int
) -> Sharding | None:
    """How weights lie on the ranks; None where each has all of them."""
    if trainer is None or mesh is None:
        return None
    return Sharding(
        meshes(mesh, replicas=replicas),
        trainer.strategy.root_device,
        torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32,
        on_host=isinstance(trainer.strategy, OffloadStrategy),
    )
