"""Weights over ranks: FSDP2, in whole or with a copy for every group of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from luffy_pl.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from luffy_pl.training.policy import Policy


def sharding_mesh(mesh: DeviceMesh, *, replicas: int) -> DeviceMesh:
    """The mesh to shard over, from Lightning's [data_parallel, tensor_parallel].

    With several replicas it is [replicate, shard]. A copy belongs to neighbouring ranks: with one
    for each node, weights are gathered within a node, and gradients alone cross between them.
    """
    if mesh["tensor_parallel"].size() != 1:
        raise ConfigError(
            "trainer.strategy.init_args.tensor_parallel_size",
            "only data parallelism is built",
            value=mesh["tensor_parallel"].size(),
            fix="set tensor_parallel_size: 1 and data_parallel_size to the number of ranks",
        )
    ranks = mesh["data_parallel"]
    if replicas == 1:
        return ranks
    if ranks.size() % replicas or ranks.size() == replicas:
        raise ConfigError(
            "model.policy.replicas",
            f"must divide the number of ranks, {ranks.size()}, and leave each copy more than one",
            value=replicas,
            fix="use the number of nodes, or 1",
        )
    shape = (replicas, ranks.size() // replicas)
    return init_device_mesh(ranks.device_type, shape, mesh_dim_names=("replicate", "shard"))


def shard_policy(policy: Policy, mesh: DeviceMesh, *, compute_dtype: torch.dtype) -> None:
    """FSDP2: each decoder layer is a unit, the rest (embedding, norm, head) another.

    Gradients are reduced in fp32 whatever the compute dtype.
    """
    precision = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
    for layer in policy.language_model.base_model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    fully_shard(policy, mesh=mesh, mp_policy=precision)
