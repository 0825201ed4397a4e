"""One engine over several ranks, each of which has prompts of its own.

vLLM cuts the weights over the ranks of a group, and every rank runs its scheduler by itself
(`external_launcher`). So all of a group hand it the same requests, those of all of them, and take
every step together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist

from luffy_pl.errors import ConfigError
from luffy_pl.process.interrupt import Stopped
from luffy_pl.process.neighbours import neighbours
from luffy_pl.process.ranks import group_timeout
from luffy_pl.records import Completion, Progress
from luffy_pl.rollout.engine import Finished, Request, RolloutEngine, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights

LOOK_EVERY_S = 0.02
PATIENCE_S = 5.0
"""Ranks that are both there meet within milliseconds, and learn of a stop within a second."""
SHARED_MEMORY = Path("/dev/shm")


class TensorParallelEngine:
    """See `RolloutEngine`. All ranks of a group call `generate` equally often, in turn.

    Args:
        start: makes this rank's part of the engine, with all ranks of all groups.
        size: ranks of a group, which are neighbours.
        deadline_s: `data.engine.deadline_s`; they wait for each other longer than that.
    """

    def __init__(
        self, start: Callable[[], RolloutEngine], *, size: int, deadline_s: float | None = None
    ) -> None:
        self._group = own_group(size, timeout=group_timeout(deadline_s))
        self._member = dist.get_rank(self._group)
        remove_leftovers(dist.get_process_group_ranks(self._group))
        dist.barrier(self._group)
        self._engine = start()

    @property
    def policy_version(self) -> int:
        """See `RolloutEngine.policy_version`."""
        return self._engine.policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        self._engine.policy_version = version

    def generate(
        self,
        requests: Sequence[Request],
        *,
        sampling: Sampling,
        on_progress: Progress | None = None,
        on_finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`."""
        done: list[Completion] = []
        total = sum(len(request.seeds) for request in requests)

        def look() -> None:
            if on_progress is not None:
                on_progress(len(done), total)

        self._meet(look)
        asked = {
            (place, member): request
            for member, own in enumerate(self._exchanged(requests))
            for place, request in enumerate(own)
        }
        # Every rank's first ones first: they may take longest.
        order = sorted(asked)

        def finished(number: int, sample: int, completion: Completion) -> None:
            place, member = order[number]
            if member == self._member:
                done.append(completion)
                if on_finished is not None:
                    on_finished(place, sample, completion)

        found = self._engine.generate(
            [asked[key] for key in order],
            sampling=sampling,
            on_progress=lambda *of_group: self._stop_together(look, patience_s=None),
            on_finished=finished,
        )
        by_key = zip(order, found, strict=True)
        return [completions for (_, member), completions in by_key if member == self._member]

    def load_weights(self, weights: PolicyWeights, *, policy_version: int) -> None:
        """See `RolloutEngine.load_weights`; vLLM takes this rank's part of each weight."""
        self._engine.load_weights(weights, policy_version=policy_version)

    def sleep(self) -> None:
        """See `RolloutEngine.sleep`."""
        self._engine.sleep()

    def close(self) -> None:
        """See `RolloutEngine.close`."""
        self._engine.close()

    def _meet(self, look: Callable[[], object]) -> None:
        """All ranks of the group are here, and none was stopped.

        A rank that was stopped while it graded does not come; who waits for it looks whether it is
        to stop itself. One that comes when another has left alone already finds out in the second
        wait, which is short where both are there.
        """
        self._wait(dist.all_reduce(torch.zeros(1), group=self._group, async_op=True), look)
        self._stop_together(look, patience_s=PATIENCE_S)

    def _exchanged(self, own: Sequence[Request]) -> list[list[Request]]:
        """What each rank of the group asks for, in the order of ranks."""
        asked: list[list[Request]] = [[] for _ in range(dist.get_world_size(self._group))]
        dist.all_gather_object(asked, list(own), group=self._group)
        return asked

    def _stop_together(self, look: Callable[[], object], *, patience_s: float | None) -> None:
        """Look whether to stop; if one rank is to, all stop, or they would wait for it.

        Args:
            patience_s: after so long another rank is taken to have left; None: it cannot have.
        """
        stopped: Stopped | None = None
        try:
            look()
        except Stopped as error:
            stopped = error
        number = torch.tensor(0 if stopped is None else stopped.number)
        work = dist.all_reduce(number, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        if patience_s is None:
            work.wait()
        else:
            self._wait(work, look, patience_s=patience_s)
        if number:
            raise stopped or Stopped(int(number))

    @staticmethod
    def _wait(work: dist.Work, look: Callable[[], object], *, patience_s: float = 0.0) -> None:
        started_s = time.monotonic()
        while not work.is_completed():
            if time.monotonic() - started_s >= patience_s:
                look()
            time.sleep(LOOK_EVERY_S)


def remove_leftovers(ranks: Sequence[int]) -> None:
    """Remove what a killed run left: on a CPU vLLM calls shared memory by its ranks and no more.

    Who still uses it has it mapped, and needs its name no longer.
    """
    ending = f"[{'-'.join(map(str, ranks))}]-cpushm_"
    for file in SHARED_MEMORY.glob("*-cpushm_*"):
        if ending in file.name:
            file.unlink(missing_ok=True)


def own_group(size: int, *, timeout: timedelta) -> dist.ProcessGroup:
    """The group of this rank: `size` neighbours, as vLLM counts them. Every rank calls this.

    Raises:
        ConfigError: there are not as many ranks, or they cannot be divided.
    """
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    if ranks % size:
        raise ConfigError(
            "data.engine.tensor_parallel_size",
            f"does not divide the number of ranks, {ranks}",
            value=size,
            fix="use a divisor of trainer.devices x trainer.num_nodes, or 1",
        )
    return neighbours(size, timeout=timeout)
