"""How many processes a configuration asks for, what they share, and how long they wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from luffy_pl.errors import ConfigError

SIZES = "trainer.strategy.init_args."
USUAL_TIMEOUT_S = 1800.0
"""Lightning's, for what ranks do together."""
MARGIN_S = 600.0


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
    """Read the section `trainer`.

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
    return 1 if getattr(trainer, "accelerator", "auto") == "cpu" else None


def group_timeout(deadline_s: float | None) -> timedelta:
    """How long ranks wait for each other: longer than for an engine that shows no progress.

    Else torch would end the ranks that wait, by a signal, before the one that hangs is told.

    Args:
        deadline_s: `data.engine.deadline_s`; None: it is waited for ever.
    """
    if deadline_s is None:
        return timedelta(days=10_000)
    return timedelta(seconds=max(USUAL_TIMEOUT_S, deadline_s + MARGIN_S))
