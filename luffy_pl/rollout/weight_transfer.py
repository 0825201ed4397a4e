"""How weights reach servers: as a file that they read, or over NCCL, by vLLM's own transfer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from luffy_pl.errors import StorageError, first_line
from luffy_pl.policy.gathering import as_asked
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.server_pool import ServerPool

if TYPE_CHECKING:
    from luffy_pl.rollout.nccl_transfer import NcclTransfer


class Transfer(Protocol):
    """A way from the trainer's weights to those of all servers."""

    def send(self, weights: PolicyWeights) -> None:
        """Replace the weights of all servers; every rank of the trainer calls it."""


def build_transfer(config: EngineConfig, pool: ServerPool, *, rank: int) -> Transfer:
    """The transfer that `config.server.transfer` names."""
    dtype = getattr(torch, config.dtype)
    if config.server.transfer == "file":
        return FileTransfer(pool, folder=config.server.folder, dtype=dtype, rank=rank)
    from luffy_pl.rollout.nccl_transfer import NcclTransfer

    nccl: NcclTransfer = NcclTransfer(pool, config.server, dtype=dtype, rank=rank)
    return nccl


class FileTransfer:
    """A safetensors file in a folder that trainer and servers share, read by every server.

    In shared memory on one machine, on a shared file system between several. Nobody else may read
    it, and it goes with the process that wrote it.
    """

    def __init__(self, pool: ServerPool, *, folder: str, dtype: torch.dtype, rank: int) -> None:
        self._pool, self._dtype, self._is_first = pool, dtype, rank == 0
        if self._is_first:
            try:
                self._folder = tempfile.TemporaryDirectory(prefix="luffy-pl-", dir=folder)
            except OSError as error:
                raise StorageError(
                    "data.engine.server.folder",
                    f"cannot be written ({first_line(error)})",
                    value=folder,
                    fix="name a folder that trainer and servers share",
                ) from error

    def send(self, weights: PolicyWeights) -> None:
        """See `Transfer.send`."""
        kept: dict[str, Tensor] = {}
        for name, weight in weights:  # every rank gathers
            if self._is_first:
                # A copy: a tied weight stands twice in the file, for servers that keep two.
                kept[name] = as_asked(weight, self._dtype).to("cpu", copy=True).contiguous()
        if not self._is_first:
            return
        partial = Path(self._folder.name) / "partial"
        save_file(kept, partial)
        # Beside, then renamed: a server may still have the file before this one mapped.
        partial.replace(partial.with_name("model.safetensors"))
        reload = {"method": "reload_weights", "kwargs": {"weights_path": self._folder.name}}
        self._pool.everywhere("collective_rpc", [reload] * len(self._pool.urls))
