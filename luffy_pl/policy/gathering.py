"""Sharded weights made whole, several at a time, in the type that they are asked for in.

They are cast before they are sent: an engine in bfloat16 costs half the bytes, and gets the same
numbers, for rounding does not depend on who rounds. Shapes: S ranks that share weights, E numbers
that each of them sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

BUCKET_BYTES = 256 << 20
"""Most bytes of whole weights that are gathered together; a larger weight is alone."""
Named = tuple[str, Any]


def whole_weights(
    weights: Iterable[Named], *, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Each weight whole and without gradient, in the order given; all ranks exhaust it.

    Args:
        dtype: see `as_asked`.
    """
    bucket: list[Named] = []
    size = 0
    for name, weight in weights:
        asked = as_asked(weight.detach(), dtype)
        num_bytes = asked.numel() * asked.element_size()
        if bucket and size + num_bytes > BUCKET_BYTES:
            yield from gathered(bucket)
            bucket, size = [], 0
        bucket.append((name, asked))
        size += num_bytes
    yield from gathered(bucket)


def as_asked(weight: Any, dtype: torch.dtype | None) -> Any:
    """A weight in the type that it is asked for in.

    Args:
        dtype: of matrices; None: their own. A vector, such as a norm, a bias or the correction of a
            router, stays as it is: an engine may keep it in float32.
    """
    is_cast = dtype is not None and weight.dim() > 1 and weight.is_floating_point()
    return weight.to(dtype) if is_cast else weight


def gathered(bucket: Sequence[Named]) -> Iterator[tuple[str, Tensor]]:
    """The weights of a bucket, by one collective for all that are cut in the same way."""
    alike: dict[Any, list[Named]] = {}
    for name, weight in bucket:
        alike.setdefault(kind_of(weight), []).append((name, weight))
    found: dict[str, Tensor] = {}
    for part in alike.values():
        first = part[0][1]
        dim = rows_dim(first) if isinstance(first, DTensor) and len(part) > 1 else None
        found |= gathered_one_by_one(part) if dim is None else gathered_together(part, dim)
    yield from ((name, found[name]) for name, _ in bucket)


def kind_of(weight: Any) -> Any:
    """What weights that are gathered together have in common: type, ranks, and how they are cut."""
    where = (weight.device_mesh, weight.placements) if isinstance(weight, DTensor) else None
    return weight.dtype, where


def gathered_one_by_one(weights: Sequence[Named]) -> dict[str, Tensor]:
    """Each by a collective of its own, where it is sharded."""
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in weights
    }


def gathered_together(weights: Sequence[Named], mesh_dim: int) -> dict[str, Tensor]:
    """All by one collective; of each, ranks hold runs of rows, the first of them equally many."""
    mesh = weights[0][1].device_mesh
    num_ranks = mesh.size(mesh_dim)
    own_E = torch.cat([padded_share(weight, num_ranks) for _, weight in weights])
    every_SE = own_E.new_empty(num_ranks * len(own_E))
    dist.all_gather_into_tensor(every_SE, own_E, group=mesh.get_group(mesh_dim))
    every_SE = every_SE.view(num_ranks, -1)
    found, start = {}, 0
    for name, weight in weights:
        size = share_size(weight, num_ranks)
        shares = every_SE[:, start : start + size].reshape(-1, *weight.shape[1:])
        found[name] = shares[: weight.shape[0]]
        start += size
    return found


def rows_dim(weight: DTensor) -> int | None:
    """The dimension of the mesh along which rows are cut; None if they are cut in another way."""
    cuts = [dim for dim, one in enumerate(weight.placements) if not one.is_replicate()]
    plain = len(cuts) == 1 and type(weight.placements[cuts[0]]) is Shard
    return cuts[0] if plain and weight.placements[cuts[0]].is_shard(0) else None


def padded_share(weight: DTensor, num_ranks: int) -> Tensor:
    """This rank's rows in one dimension, as long as those of the first rank."""
    own = weight.to_local().reshape(-1)
    return torch.nn.functional.pad(own, (0, share_size(weight, num_ranks) - len(own)))


def share_size(weight: DTensor, num_ranks: int) -> int:
    """Numbers in the rows of the first rank, which has most."""
    return ceil(weight.shape[0] / num_ranks) * weight.shape[1:].numel()
