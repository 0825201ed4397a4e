"""The policy's own earlier successes, shown to it again (ExGRPO, arXiv 2510.02245).

A prompt that is neither always nor never solved enters a pool with its right answers, in the
bucket of how many of them there were. Later phases take a share of their prompts from the pool:
buckets near half right are likelier, and each such group holds one earlier answer with the
log-probabilities it was sampled with. The pool is the same on every rank and part of checkpoints.

Other than the released code: answers are kept as token ids; recorded log-probabilities are the
engine's; the pool of a prompt is bounded. The released choice of a trajectory reads entropies at
padding, which makes it nearly arbitrary: `choice: random` stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.data.seeds import keyed_order, keyed_seed
from luffy_pl.experience.guidance import Given
from luffy_pl.records import Group

Trajectory = tuple[tuple[int, ...], tuple[float, ...]]
"""Token ids of an answer and their log-probabilities in nats when it was sampled."""


@dataclass(frozen=True)
class ReplayConfig:
    """What is replayed, and when."""

    share: float = bounded(0.5, above=0, below=1)
    """Most of a phase's prompts that come from the pool."""
    start_solved: float = bounded(0.35, at_least=0, below=1)
    """Replay begins after the first phase with more than this share of right rollouts."""
    max_correct: int = bounded(7, at_least=1, at_most=1e6)
    """Prompts with more right answers than this stay out of the pool."""
    buckets: Literal["normal", "linear", "sqrt", "uniform"] = "normal"
    """How likely a bucket of k right answers of n is: a normal density at n/2 with deviation 1,
    k/n, its root, or all prompts alike."""
    choice: Literal["min_entropy", "max_entropy", "random"] = "min_entropy"
    """Which of a prompt's answers is shown: by the mean token entropy of the policy now."""
    max_trajectories: int = bounded(8, at_least=1, at_most=1e6)
    """Answers kept for a prompt; the oldest go first."""
    retire_solved: bool = True
    """A prompt whose rollouts all were right leaves the pool and is not asked again."""

    def __post_init__(self) -> None:
        check_bounds(self, "data.rollout.replay")


@dataclass(frozen=True)
class PromptOutcome:
    """What a phase says about one prompt: right rows, all rows, and its right new answers."""

    prompt_id: str
    num_correct: int
    num_rows: int
    successes: tuple[Trajectory, ...]


def prompt_outcome(group: Group) -> PromptOutcome | None:
    """The outcome of a graded group; a replayed row counts as right again, not as new.

    Rows that were sampled under a hint do not count: None if there are no others.
    """
    rows = [row for row in group.responses if row.hint is None]
    if not rows:
        return None
    correct = [row for row in rows if row.verdict.correct is True]
    return PromptOutcome(
        prompt_id=group.prompt.id,
        num_correct=len(correct),
        num_rows=len(rows),
        successes=tuple(
            (row.token_ids, row.logprobs)
            for row in correct
            # One that ran into the length limit has no EOS, and would be taught as a whole answer.
            if row.source == "rollout" and row.logprobs is not None and row.finish_reason == "stop"
        ),
    )


class ReplayPool:
    """Prompt id to its right answers, in buckets by how many there were last time."""

    def __init__(self, config: ReplayConfig) -> None:
        self.config = config
        self.has_started = False
        self.bucket_of: dict[str, int] = {}
        self.trajectories: dict[str, list[Trajectory]] = {}
        self.retired: set[str] = set()

    def update(self, outcomes: Sequence[PromptOutcome]) -> None:
        """Take in a phase; answers are collected from the phase after replay began."""
        solved = sum(found.num_correct for found in outcomes)
        share = solved / max(1, sum(found.num_rows for found in outcomes))
        for found in outcomes:
            if found.num_correct == found.num_rows and self.config.retire_solved:
                self._forget(found.prompt_id)
                self.retired.add(found.prompt_id)
            elif self.has_started and 0 < found.num_correct <= self.config.max_correct:
                self._keep(found)
        self.has_started = self.has_started or share > self.config.start_solved

    def draw(self, num: int, *, group_size: int, seed: int, phase: int) -> list[str]:
        """Up to `num` prompts, without replacement; likelier buckets give more."""
        left: dict[int, list[str]] = {}
        for prompt_id in sorted(self.bucket_of):
            left.setdefault(self.bucket_of[prompt_id], []).append(prompt_id)
        drawn: list[str] = []
        while left and len(drawn) < num:
            weights = {k: self._weight(k, len(ids), group_size) for k, ids in sorted(left.items())}
            point = keyed_seed(seed, "bucket", phase, len(drawn)) / 2**31 * sum(weights.values())
            bucket = next((k for k in weights if (point := point - weights[k]) < 0), max(weights))
            ids = left[bucket]
            drawn.append(ids.pop(keyed_order(len(ids), "replay", seed, phase, len(drawn))[0]))
            if not ids:
                del left[bucket]
        return drawn

    def choose(self, prompt_id: str, entropies: Sequence[float], *, seed: int, phase: int) -> Given:
        """The answer to show; `entropies` are those of `trajectories[prompt_id]`."""
        numbers = range(len(entropies))
        if self.config.choice == "random":
            best = keyed_order(len(entropies), "trajectory", seed, phase, prompt_id)[0]
        elif self.config.choice == "min_entropy":
            best = min(numbers, key=lambda number: entropies[number])
        else:
            best = max(numbers, key=lambda number: entropies[number])
        token_ids, logprobs = self.trajectories[prompt_id][best]
        return Given("replay", token_ids, is_complete=True, logprobs=logprobs)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "has_started": self.has_started,
            "bucket_of": dict(self.bucket_of),
            "trajectories": {
                name: [[list(ids), list(logprobs)] for ids, logprobs in kept]
                for name, kept in self.trajectories.items()
            },
            "retired": sorted(self.retired),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the pool of a checkpoint."""
        self.has_started = state["has_started"]
        self.bucket_of = dict(state["bucket_of"])
        self.trajectories = {
            name: [(tuple(ids), tuple(logprobs)) for ids, logprobs in kept]
            for name, kept in state["trajectories"].items()
        }
        self.retired = set(state["retired"])

    def _weight(self, correct: int, size: int, group_size: int) -> float:
        match self.config.buckets:
            case "normal":
                return math.exp(-0.5 * (correct - group_size / 2) ** 2)
            case "linear":
                return correct / group_size
            case "sqrt":
                return math.sqrt(correct / group_size)
        return float(size)

    def _keep(self, found: PromptOutcome) -> None:
        known = self.trajectories.setdefault(found.prompt_id, [])
        seen = {ids for ids, _ in known}
        for trajectory in found.successes:
            if trajectory[0] not in seen:
                seen.add(trajectory[0])
                known.append(trajectory)
        del known[: -self.config.max_trajectories]
        if known:
            self.bucket_of[found.prompt_id] = found.num_correct
        else:
            self._forget(found.prompt_id)

    def _forget(self, prompt_id: str) -> None:
        self.bucket_of.pop(prompt_id, None)
        self.trajectories.pop(prompt_id, None)
