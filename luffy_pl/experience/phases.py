"""What a phase is made from: its prompts, and what earlier phases left for it.

Without replay and buffer a phase is a function of (seed, phase). With them it also depends on
what came before; that state is the same on every rank, and part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch.distributed

from luffy_pl.data.fingerprint import check_same, fingerprint
from luffy_pl.data.prompts import PromptSet
from luffy_pl.data.seeds import keyed_order, phase_prompts
from luffy_pl.experience.guidance import Given
from luffy_pl.experience.imitation_buffer import ImitationBuffer, imitated_group, unsolved
from luffy_pl.experience.policy_view import PolicyView
from luffy_pl.experience.replay import ReplayPool, prompt_outcome
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.prompt_shares import PromptShares, accuracies
from luffy_pl.records import Group, Prompt

Item = TypeVar("Item")


@dataclass(frozen=True)
class Phase:
    """What one phase of one rank is made from.

    places: of each prompt in the phase, over all ranks.
    replayed: by prompt id, the earlier answer to show.
    spare: prompts for dynamic sampling, in the order in which they are taken.
    shares: how much a prompt id is shown, where that is a state of its own: of `guidance`.
    """

    number: int
    prompts: Sequence[Prompt]
    places: Sequence[int]
    replayed: Mapping[str, Given]
    spare: Sequence[Prompt]
    shares: Mapping[str, PromptShares] = field(default_factory=dict)


class PhasePlanner:
    """Chooses the prompts of each phase; learns what its groups leave for later ones."""

    def __init__(
        self, prompts: PromptSet, rollout: RolloutConfig, *, seed: int, rank: int, num_ranks: int
    ) -> None:
        self.prompts, self.rollout, self.seed = prompts, rollout, seed
        self.rank, self.num_ranks = rank, num_ranks
        self.pool = ReplayPool(rollout.replay) if rollout.replay else None
        self.buffer = ImitationBuffer(rollout.imitation_buffer or 0)
        self.shares = {name: PromptShares(one) for name, one in rollout.per_prompt.items()}

    def plan(self, phase: int, *, view: PolicyView | None) -> Phase:
        """This rank's share of a phase."""
        chosen, spare = self._fresh(phase)
        replayed = self._replayed(phase, view)
        num_fresh = self.rollout.prompts_per_phase - len(replayed)
        fresh = [prompt for prompt in chosen if prompt.id not in replayed]
        # A phase over two epochs may have held a replayed prompt twice; none may be short.
        spare = [prompt for prompt in spare if prompt.id not in replayed]
        missing = max(0, num_fresh - len(fresh))
        fresh, spare = fresh + (spare + chosen)[:missing], spare[missing:]
        together = fresh[:num_fresh] + [self.by_id[name] for name in replayed]
        mine = slice(self.rank, None, self.num_ranks)
        places = range(len(together))[mine]
        return Phase(phase, together[mine], places, replayed, spare[mine], self.shares)

    def imitated(self, groups: Sequence[Group], phase: int) -> list[Group]:
        """Learn from a phase; this rank's share of a step of imitation, where one is due."""
        if phase < self.rollout.sft_phases:  # an expert's right answer says nothing of the policy
            return []
        if self.shares:
            found = self._gather(accuracies(groups))
            for shares in self.shares.values():
                shares.update(found)
        if self.pool is not None:
            outcomes = [prompt_outcome(group) for group in groups]
            self.pool.update(self._gather([found for found in outcomes if found is not None]))
        if self.rollout.imitation_buffer is None:
            return []
        # Sorted, so that the number of ranks does not decide who waits longest.
        self.buffer.add(sorted(self._gather(unsolved(groups))))
        return [
            imitated_group(self.by_id[name], self.prompts.traces[name], seed=self.seed, phase=phase)
            for name in self.buffer.take()[self.rank :: self.num_ranks]
        ]

    def sizes(self) -> dict[str, float]:
        """How much is kept for later phases, for the logs."""
        found: dict[str, float] = {}
        if self.rollout.imitation_buffer is not None:
            found["imitation_buffer/prompts"] = len(self.buffer.ids)
        if self.pool is not None:
            found["experience/prompts"] = len(self.pool.bucket_of)
            found["experience/retired"] = len(self.pool.retired)
            for bucket in sorted(set(self.pool.bucket_of.values())):
                count = sum(k == bucket for k in self.pool.bucket_of.values())
                found[f"bucket/{bucket}_count"] = count
        return found

    def state_dict(self) -> dict[str, Any]:
        """What later phases need of earlier ones, and what they are made of; plain values."""
        return {
            "replay": self.pool.state_dict() if self.pool else None,
            "imitation_buffer": list(self.buffer.ids),
            "fingerprint": self.fingerprint,
            **({"shares": {n: dict(s.of) for n, s in self.shares.items()}} if self.shares else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with what a checkpoint holds.

        Raises:
            ConfigError: the run was started with other prompts or traces.
        """
        check_same(before=state["fingerprint"], now=self.fingerprint)
        if self.pool is not None and state["replay"] is not None:
            self.pool.load_state_dict(state["replay"])
        self.buffer.ids = list(state["imitation_buffer"])
        for name, shares in self.shares.items():
            shares.of = dict(state.get("shares", {}).get(name, {}))

    @cached_property
    def by_id(self) -> dict[str, Prompt]:
        """Each prompt by its id, for what earlier phases left."""
        return {prompt.id: prompt for prompt in self.prompts.prompts}

    @cached_property
    def fingerprint(self) -> str:
        """A short value for the training set, computed once."""
        return fingerprint(self.prompts)

    def _fresh(self, phase: int) -> tuple[list[Prompt], list[Prompt]]:
        """Prompts of the phase, retired ones replaced, and the others in their order."""
        prompts, wanted = self.prompts.prompts, self.rollout.prompts_per_phase
        order = phase_prompts(len(prompts), prompts_per_phase=wanted, seed=self.seed, phase=phase)
        if self.pool is None and not self.rollout.refill_tries:
            return [prompts[number] for number in order], []
        retired = self.pool.retired if self.pool else set()
        taken = set(order)
        chosen = [prompts[number] for number in order if prompts[number].id not in retired]
        others = [
            prompts[number]
            for number in keyed_order(len(prompts), "spare", self.seed, phase)
            if number not in taken and prompts[number].id not in retired
        ]
        missing = wanted - len(chosen)
        # Where all others are retired too, solved prompts are asked again.
        again = [prompts[number] for number in order if prompts[number].id in retired]
        return chosen + (others[:missing] + again)[:missing], others[missing:]

    def _replayed(self, phase: int, view: PolicyView | None) -> dict[str, Given]:
        """Earlier answers to show in this phase, by prompt; the same on every rank."""
        replay, pool = self.rollout.replay, self.pool
        if replay is None or pool is None or view is None:
            return {}
        names = pool.draw(
            int(self.rollout.prompts_per_phase * replay.share),
            group_size=self.rollout.group_size,
            seed=self.seed,
            phase=phase,
        )
        rows = [
            (self.by_id[name].token_ids, token_ids)
            for name in names
            for token_ids, _ in pool.trajectories[name]
        ]
        entropies = iter(view.mean_entropies(rows, temperature=self.rollout.temperature))
        return {
            name: pool.choose(
                name,
                [next(entropies) for _ in pool.trajectories[name]],
                seed=self.seed,
                phase=phase,
            )
            for name in names
        }

    def _gather(self, mine: list[Item]) -> list[Item]:
        """The items of all ranks, in the order of ranks."""
        if self.num_ranks == 1:
            return mine
        found: list[list[Item]] = [[] for _ in range(self.num_ranks)]
        torch.distributed.all_gather_object(found, mine)
        return [item for of_rank in found for item in of_rank]
