"""Weights to servers over NCCL: vLLM's trainer-side engine, driven for a whole pool.

Follows the documented interface of vLLM 0.32; a machine with GPUs has not run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from luffy_pl.policy.gathering import as_asked
from luffy_pl.rollout.engine import ServerConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.server_pool import ServerPool


class NcclTransfer:
    """One NCCL group of the trainer's first rank and every worker of every server."""

    def __init__(
        self, pool: ServerPool, config: ServerConfig, *, dtype: torch.dtype, rank: int
    ) -> None:
        self._pool, self._config, self._rank = pool, config, rank
        self._source = _Source(dtype, torch.device("cuda", torch.cuda.current_device()))
        self._engine: Any = None

    def send(self, weights: PolicyWeights) -> None:
        """See `Transfer.send`; the group is formed with the first weights."""
        self._source.weights = weights
        if self._engine is None:
            self._engine = self._join()
        self._engine.send_weights()

    def _join(self) -> Any:
        sizes = [
            answer["world_size"] for answer in self._pool.everywhere("get_world_size", method="GET")
        ]
        joined = NCCLTrainerInitInfo(
            master_address=self._config.nccl_address,
            master_port=self._config.nccl_port,
            world_size=1 + sum(sizes),
            rank=self._rank,
        )
        return WeightTransferTrainerFactory.trainer_init(
            joined, client=PoolClient(self._pool, sizes), source=self._source
        )


class PoolClient:
    """vLLM's four control messages, to every server of a pool at once (`VLLMWeightSyncClient`).

    Args:
        sizes: workers of each server.
    """

    def __init__(self, pool: ServerPool, sizes: list[int]) -> None:
        self._pool, self._sizes = pool, sizes

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Every worker gets a place of its own in the group, behind those of the server before."""
        first = init_info["rank_offset"]
        offsets = [first + sum(self._sizes[:number]) for number in range(len(self._sizes))]
        bodies = [{"init_info": {**init_info, "rank_offset": offset}} for offset in offsets]
        self._pool.everywhere("init_weight_transfer_engine", bodies)

    def start_weight_update(self) -> None:
        """Before the first weight."""
        self._pool.everywhere("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        """The names, types and shapes of what is being broadcast."""
        self._pool.everywhere("update_weights", [{"update_info": update_info}] * len(self._sizes))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """After the last weight."""
        body = {"weight_version": weight_version} if weight_version is not None else None
        self._pool.everywhere("finish_weight_update", [body] * len(self._sizes))


class _Source(WeightSource):
    """The weights of one sync, matrices in the engine's dtype, tied ones repeated.

    Args:
        device: this rank's GPU; an offloaded policy's weights are on the host, and NCCL sends none
            from there.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self.weights: PolicyWeights

    def metadata(self) -> list[ParamMeta]:
        """Names, types and shapes, without gathering."""
        return [
            ParamMeta(name, as_asked(outline, self._dtype).dtype, tuple(outline.shape))
            for name, outline in self.weights.outlines()
        ]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self.weights:
            yield name, as_asked(weight, self._dtype).to(self._device)
