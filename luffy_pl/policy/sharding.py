"""Weights over ranks: FSDP2, with one copy or several, and layers that a group of ranks cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.policy.tensor_parallel import FIELD, TensorGroup, cut_layers, decoder_layers
from luffy_pl.process.neighbours import neighbours

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from luffy_pl.policy.policy import Policy

NAMES = ("replicate", "shard", "tensor")


@dataclass(frozen=True)
class Meshes:
    """Ranks by what they share.

    tensor: a group that holds layers together, one dimension; neighbours.
    data: over which a cut weight is sharded; [shard], or with several copies [replicate, shard].
    world: over which all other weights are; the same, of all ranks.
    """

    tensor: DeviceMesh
    data: DeviceMesh
    world: DeviceMesh


def meshes(given: DeviceMesh, *, replicas: int) -> Meshes:
    """From Lightning's [data_parallel, tensor_parallel].

    A copy belongs to neighbouring ranks: with one for each node, weights are gathered within a
    node, and gradients alone cross between them.
    """
    cut = given["tensor_parallel"].size()
    ranks = given["data_parallel"].size() * cut
    share = share_of_ranks(ranks, replicas=replicas, cut=cut)
    world, device = given["data_parallel"], given.device_type
    if replicas > 1:
        world = init_device_mesh(device, (replicas, share), mesh_dim_names=NAMES[:2])
    elif cut > 1:
        world = init_device_mesh(device, (ranks,))
    if cut == 1:
        return Meshes(given["tensor_parallel"], world, world)
    grid = init_device_mesh(device, (replicas, share // cut, cut), mesh_dim_names=NAMES)
    data = grid["shard"] if replicas == 1 else grid["replicate", "shard"]
    return Meshes(grid["tensor"], data, world)


def share_of_ranks(ranks: int, *, replicas: int, cut: int) -> int:
    """Ranks that hold one copy of the weights together.

    Args:
        cut: ranks that cut each layer together.

    Raises:
        ConfigError: copies cannot be laid over the ranks.
    """
    share = ranks // replicas
    if ranks % replicas or (replicas > 1 and share == 1) or share % cut:
        raise ConfigError(
            "model.policy.replicas",
            f"must divide the number of ranks, {ranks}, and leave each copy more than one, and "
            f"whole tensor groups (of {cut})",
            value=replicas,
            fix="use the number of nodes, or 1",
        )
    return share


@dataclass(frozen=True)
class Sharding:
    """How the weights of a run lie on its ranks.

    device: where a rank computes. compute_dtype: what it computes in; gradients are reduced in fp32
    whatever that is. on_host: weights and gradients are kept there.
    """

    ranks: Meshes
    device: torch.device
    compute_dtype: torch.dtype
    on_host: bool = False

    @property
    def home(self) -> torch.device:
        """Where shards are kept."""
        return torch.device("cpu") if self.on_host else self.device


def shard_policy(policy: Policy, sharding: Sharding) -> None:
    """FSDP2: each decoder layer is a unit, the rest (embedding, norm, head) another."""
    ranks, dtype = sharding.ranks, sharding.compute_dtype
    options: dict[str, Any] = {
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    }
    if sharding.on_host:
        options["offload_policy"] = CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
    layers = decoder_layers(policy.language_model)
    if ranks.tensor.size() > 1:
        check_packed(policy)
        cut_layers(layers, policy.language_model.base_model.config, ranks.tensor)
        policy.tensor_group = TensorGroup(neighbours(ranks.tensor.size()))
        for layer in layers:
            shard_cut_weights(layer, ranks, options)
    else:
        for layer in layers:
            fully_shard(layer, mesh=ranks.world, **options)
    fully_shard(policy, mesh=ranks.world, **options)
    register_fsdp_forward_method(policy, "teacher_head")


def check_packed(policy: Policy) -> None:
    """Refuse to cut layers whose rows cannot be one sequence."""
    if not policy.packs_rows:
        raise ModelError(
            "model.policy.path",
            "its rows cannot be packed, which cut layers need",
            value=policy.language_model.config.model_type,
            fix=f"set {FIELD}: 1 and data_parallel_size to the number of ranks",
        )


def shard_cut_weights(layer: nn.Module, ranks: Meshes, options: Mapping[str, Any]) -> None:
    """Those of one layer are a unit; its norms, and what else is whole, are left to the rest.

    The gradient of a cut weight is summed over fewer ranks than the others' but comes from the rows
    of all, hence a divisor of its own.
    """
    cut = [
        module for module in layer.modules() if isinstance(getattr(module, "weight", None), DTensor)
    ]
    unit = fully_shard(cut, mesh=ranks.data, **options)[0]
    unit.set_gradient_divide_factor(ranks.world.size())
    if ranks.data["shard"].size() > 1:  # torch 2.13 would divide a single shard twice
        unit.set_force_sum_reduction_for_comms(True)  # gloo knows no other with a divisor
