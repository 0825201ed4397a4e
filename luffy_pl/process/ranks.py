"""How many processes a configuration asks for, and what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from luffy_pl.errors import ConfigError

SIZES = "trainer.strategy.init_args."


@dataclass(frozen=True)
class Ranks:
    """Processes of a run.

    is_sharded: weights are cut over them, by ModelParallelStrategy. offloads: and kept on the host.
    tensor: of them that cut each layer together; 1 where none do.
    """

    total: int
    is_sharded: bool = False
    offloads: bool = False
    tensor: int = 1


def count_ranks(trainer: Any) -> Ranks:
    """Of the section `trainer`.

    Raises:
        ConfigError: the sizes of the strategy are not those of the devices.
    """
    asked = devices_asked(trainer)
    per_node = asked or torch.cuda.device_count() or 1
    total = per_node * int(trainer.num_nodes)
    options = getattr(trainer.strategy, "init_args", None)
    if options is None or not hasattr(options, "tensor_parallel_size"):
        return Ranks(total)
    # What Lightning takes for auto.
    data = trainer.num_nodes if options.data_parallel_size == "auto" else options.data_parallel_size
    tensor = per_node if options.tensor_parallel_size == "auto" else options.tensor_parallel_size
    if asked and data * tensor != total:
        raise ConfigError(
            SIZES + "data_parallel_size",
            f"times tensor_parallel_size={tensor} is not the number of ranks, trainer.devices x "
            f"trainer.num_nodes = {total}",
            value=data,
            fix=f"use {total // tensor}" if total % tensor == 0 else "change either",
        )
    offloads = trainer.strategy.class_path.endswith("OffloadStrategy")
    return Ranks(total, is_sharded=True, offloads=offloads, tensor=int(tensor))


def devices_asked(trainer: Any) -> int | None:
    """Devices of one node; None takes all that are there."""
    devices = trainer.devices
    if isinstance(devices, str) and "," in devices:
        devices = [number for number in devices.split(",") if number.strip()]
    if isinstance(devices, (list, tuple)):
        return len(devices)
    if str(devices).isdigit():
        return int(devices)
    return 1 if trainer.accelerator == "cpu" else None
