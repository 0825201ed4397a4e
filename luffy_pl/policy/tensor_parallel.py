"""Layers cut over the ranks of a tensor group, each of which keeps rows of its own.

Between layers a rank holds the hidden states of its rows alone. Before attention and MLP those of
the whole group are gathered, after them they are summed and given back (sequence parallelism,
arXiv 2205.05198, section 4.2.2), by `torch.distributed.tensor.parallel`. So nothing outside the
layers knows of groups, and nothing is computed twice.
Shapes: K packed tokens of a rank, padded to the most of its group; G = K x ranks of the group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from luffy_pl.attention.packing import Packed
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.process.ranks import SIZES
from luffy_pl.process.staging import on_device

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PretrainedConfig, PreTrainedModel

FIELD = SIZES + "tensor_parallel_size"
Segments = tuple[tuple[int, ...], tuple[int, ...]]
# Of transformers' plans: what is cut, and a norm of heads, which every rank holds whole.
COLWISE, ROWWISE, WHOLE = "colwise", "rowwise", "replicated_with_grad_allreduce"


def cut_layers(layers: nn.ModuleList, config: PretrainedConfig, mesh: DeviceMesh) -> None:
    """Cut the linear weights of every layer as the model's own plan says.

    Args:
        mesh: of the tensor group, one dimension.

    Raises:
        ConfigError, ModelError: see `layer_plan`.
    """
    plan = layer_plan(config, mesh.size())
    # Input and output are the tokens of a rank; a module's cut weights share what it gathers.
    styles: dict[str, ParallelStyle] = {
        name: ColwiseParallel() if cut == COLWISE else RowwiseParallel(output_layouts=Shard(1))
        for name, cut in plan.items()
    }
    for block in {name.rpartition(".")[0] for name in plan}:
        styles[block] = _gather_input(block)
    for layer in layers:
        parallelize_module(layer, mesh, styles)


def layer_plan(config: PretrainedConfig, ranks: int) -> dict[str, str]:
    """Colwise or rowwise of each linear weight that is cut, by its name within a layer.

    Raises:
        ConfigError: the number of ranks does not divide what is cut.
        ModelError: transformers has no plan for the model, or one of other cuts.
    """
    found = {
        name.removeprefix("layers.*."): cut
        for name, cut in (config.base_model_tp_plan or {}).items()
        if name.startswith("layers.*.") and cut != WHOLE
    }
    others = sorted(set(found.values()) - {COLWISE, ROWWISE})
    if not found or others:
        raise ModelError(
            "model.policy.path",
            "transformers has no plan for cutting its layers"
            if not found
            else f"its layers are cut in ways that are not built here ({', '.join(others)})",
            value=config.model_type,
            fix=f"set {FIELD}: 1 and data_parallel_size to the number of ranks",
        )
    # A rank gets whole heads, and as much of the MLP as any other.
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        size = getattr(config, name)
        if size % ranks:
            raise ConfigError(
                FIELD,
                f"does not divide the model's {name}, {size}",
                value=ranks,
                fix="use a number that divides it",
            )
    return found


def _gather_input(block: str) -> PrepareModuleInput:
    # transformers' layers call their attention by keywords, their MLP by position.
    if block.endswith("attn"):
        return PrepareModuleInput(
            input_kwarg_layouts={"hidden_states": Shard(1)},
            desired_input_kwarg_layouts={"hidden_states": Replicate()},
        )
    return PrepareModuleInput(input_layouts=Shard(1), desired_input_layouts=Replicate())


class TensorGroup:
    """The ranks that hold layers together, as the policy meets them before each forward.

    Args:
        group: their process group on the host, since lengths of rows live there.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group

    def join(self, own: Packed) -> Packed:
        """See `joined`. Every rank of the group calls this."""
        parts: list[Segments] = [((), ())] * dist.get_world_size(self._group)
        dist.all_gather_object(parts, (own.segment_lengths, own.num_shared), group=self._group)
        return joined(own, parts)


def joined(own: Packed, parts: Sequence[Segments]) -> Packed:
    """The rows of a rank, padded to K, with the segments and positions of all G tokens.

    Args:
        parts: segment lengths and numbers of shared tokens of each rank, in their order.
    """
    width = max(sum(lengths) for lengths, _ in parts)
    longest = max(max(lengths) for lengths, _ in parts)
    lengths_G: list[int] = []
    shared_G: list[int] = []
    for lengths, shared in parts:
        padding = segments_of(width - sum(lengths), longest)
        lengths_G += [*lengths, *padding]
        shared_G += [*shared, *(0 for _ in padding)]
    positions = [torch.arange(s, s + n) for n, s in zip(lengths_G, shared_G, strict=True)]
    missing = width - own.token_ids_1K.shape[1]
    return dataclasses.replace(
        own,
        token_ids_1K=nn.functional.pad(own.token_ids_1K, (0, missing)),
        position_ids_1K=on_device(torch.cat(positions)[None], own.token_ids_1K.device),
        segment_lengths=tuple(lengths_G),
        num_shared=tuple(shared_G),
    )


def segments_of(num_tokens: int, longest: int) -> list[int]:
    """Padding in pieces that cost attention no more than the longest row."""
    whole, rest = divmod(num_tokens, longest)
    return [longest] * whole + [rest] * (rest > 0)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Those of a language model, whatever its family calls them.

    Raises:
        ModelError: they cannot be told from its other modules.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    usual = getattr(model.base_model, "layers", None)
    found = [usual] if usual is not None else [
        module
        for module in model.get_decoder().modules()
        if isinstance(module, nn.ModuleList)
        and len(module) > 0
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]  # fmt: skip
    if len(found) != 1:
        raise ModelError(
            "model.policy.path",
            "its layers, to be sharded or compiled one by one, cannot be told from other modules",
            value=type(model).__name__,
            fix="train it on one rank, with compile: false",
        )
    return found[0]
