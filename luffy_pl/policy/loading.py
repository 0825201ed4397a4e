"""Policies that are sharded while they are loaded, so that no rank but the first holds a whole one.

The first rank reads the model and compares it with its policy. Every rank builds the same policy
without weights, shards it, and gets its shards from the first rank, piece by piece; the first rank
lets go of each piece as soon as all have theirs. So all ranks of a machine together hold about one
copy of the weights at any time, while reading and afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from luffy_pl.bundled import resolve
from luffy_pl.errors import LuffyError
from luffy_pl.policy.policy import Policy, Reading, finish_policy, load_policy
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.policy.sharding import Sharding, shard_policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PIECE_BYTES = 16 << 20
Slices = tuple[slice, ...]


@dataclass(frozen=True)
class FirstRead:
    """What the first rank tells of the model that it has read.

    reading: what the policy found out of it.
    dtypes: of the weights, by name.
    buffers: values that are no weights, by name; some are computed, some stand in the files.
    conversions: transformers' way back to the names of a checkpoint.
    """

    reading: Reading
    dtypes: Mapping[str, torch.dtype]
    buffers: Mapping[str, Tensor]
    conversions: Any


def load_on_ranks(
    config: PolicyConfig,
    sharding: Sharding | None,
    group: dist.ProcessGroup | None,
    *,
    seed: int = 0,
) -> Policy:
    """The policy that the settings name: whole on the CPU, or as `load_sharded` has it."""
    path = resolve(config.path)
    if sharding is None or group is None:
        return load_policy(config, path, seed=seed)
    return load_sharded(config, path, sharding, group, seed=seed)


def load_sharded(
    config: PolicyConfig, path: str, sharding: Sharding, group: dist.ProcessGroup, *, seed: int = 0
) -> Policy:
    """The policy with pretrained weights, sharded; every rank calls this together.

    Args:
        group: of all ranks, on the host.
        seed: of adapters.

    Raises:
        LuffyError: what the first rank met, on all ranks.
    """
    whole: Policy | None = None
    told: list[FirstRead | LuffyError | None] = [None]
    if dist.get_rank() == 0:
        try:
            whole = load_policy(config, path, seed=seed, is_mapped=False)
            told = [first_read(whole)]
        except LuffyError as error:
            told = [error]
    dist.broadcast_object_list(told, src=0, group=group)
    [found] = told
    if isinstance(found, LuffyError):
        raise found
    assert found is not None
    policy = empty_policy(config, path, found, seed=seed)
    shard_policy(policy, sharding)
    for name, buffer in found.buffers.items():
        owner, _, own_name = name.rpartition(".")
        setattr(policy.get_submodule(owner), own_name, buffer.to(sharding.home))
    take_shards(policy, whole, sharding.home, group)
    return policy


def first_read(whole: Policy) -> FirstRead:
    """What other ranks need of a policy beside its weights."""
    return FirstRead(
        whole.reading,
        {name: weight.dtype for name, weight in whole.named_parameters()},
        dict(whole.named_buffers()),
        getattr(whole.language_model, "_weight_conversions", None),
    )


def empty_policy(config: PolicyConfig, path: str, found: FirstRead, *, seed: int) -> Policy:
    """The same policy with its weights on the meta device."""
    model = empty_model(config, path)
    model._weight_conversions = found.conversions
    with torch.device("meta"):
        policy = finish_policy(model, config, seed=seed, reading=found.reading)
    for name, weight in policy.named_parameters():
        weight.data = weight.data.to(found.dtypes[name])
    return policy


def empty_model(config: PolicyConfig, path: str) -> PreTrainedModel:
    """The language model of a folder or hub name, as its class builds it."""
    from transformers import AutoConfig

    from luffy_pl.policy.architecture import weightless

    code = code_arguments(config.remote_code)
    source = AutoConfig.from_pretrained(path, **code)
    # The commit belongs to code that is loaded; transformers' own classes do not take it.
    named = ("trust_remote_code", "code_revision") if hasattr(source, "auto_map") else ()
    return weightless(
        source,
        dtype=getattr(torch, config.dtype),
        attention=config.own_attention,
        lora=None,
        code={name: code[name] for name in named if name in code},
    )


def take_shards(
    policy: Policy, whole: Policy | None, device: torch.device, group: dist.ProcessGroup
) -> None:
    """Fill a sharded policy from the whole one of the first rank, which is empty afterwards."""
    weights = dict(policy.named_parameters())
    places: list[dict[str, Slices]] = [{} for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(places, {n: place_of(w) for n, w in weights.items()}, group=group)
    sources = {} if whole is None else dict(whole.named_parameters())
    filled: dict[int, nn.Parameter] = {}
    for name, weight in weights.items():
        source = sources.get(name)
        shard = one_shard(
            weight,
            None if source is None else source.detach(),
            [place[name] for place in places],
            group,
        )
        if source is not None:
            source.data = source.new_empty(0)
        assert isinstance(weight, DTensor)
        sharded = DTensor.from_local(
            shard.to(device),
            weight.device_mesh,
            weight.placements,
            run_check=False,
            shape=weight.shape,
            stride=weight.stride(),
        )
        filled[id(weight)] = nn.Parameter(sharded, requires_grad=weight.requires_grad)
    # A tied weight has two names, and stays one weight.
    named = policy.state_dict(keep_vars=True).items()
    shards = {name: filled[id(weight)] for name, weight in named if id(weight) in filled}
    policy.load_state_dict(shards, strict=False, assign=True)


def place_of(weight: Any) -> Slices:
    """Where this rank's shard lies in a weight."""
    shape, start = compute_local_shape_and_global_offset(
        weight.shape, weight.device_mesh, weight.placements
    )
    return tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))


def one_shard(
    weight: Tensor, source: Tensor | None, places: list[Slices], group: dist.ProcessGroup
) -> Tensor:
    """This rank's shard of a weight, on the host.

    Args:
        source: the whole weight, on the first rank; its pages are gone afterwards.
        places: of all ranks.
    """
    rank = dist.get_rank(group)
    own = places[rank]
    shard = torch.empty([part.stop - part.start for part in own], dtype=weight.dtype)
    for rows in pieces(weight):
        for to, place in enumerate(places):
            first, last = max(rows.start, place[0].start), min(rows.stop, place[0].stop)
            if first >= last or rank not in (0, to):
                continue
            into = shard[first - own[0].start : last - own[0].start] if to == rank else None
            block = None if source is None else source[slice(first, last), *place[1:]]
            if into is not None and block is not None:
                into.copy_(block)
            elif block is not None:
                dist.send(in_bytes(block.contiguous()), group=group, group_dst=to)
            elif into is not None:
                dist.recv(in_bytes(into), group=group, group_src=0)
        if source is not None:
            drop_pages(source[rows])
    return shard


def pieces(weight: Tensor) -> Iterator[slice]:
    """Rows of a weight that travel together."""
    row_bytes = weight[:1].numel() * weight.dtype.itemsize
    step = max(1, PIECE_BYTES // max(1, row_bytes))
    for first in range(0, weight.shape[0], step):
        yield slice(first, min(first + step, weight.shape[0]))


def in_bytes(tensor: Tensor) -> Tensor:
    """The same memory, of a type that every backend sends."""
    return tensor.view(-1).view(torch.uint8)


def drop_pages(tensor: Tensor) -> None:
    """Let the kernel have the pages of a tensor that nobody reads again, and keep its address."""
    if sys.platform != "linux":
        return
    first, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    begin = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (first + size) // mmap.PAGESIZE * mmap.PAGESIZE - begin
    if length > 0:
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(begin), ctypes.c_size_t(length), mmap.MADV_DONTNEED
        )
