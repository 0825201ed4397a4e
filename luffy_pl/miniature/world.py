r"""Running sums: a small world of problems whose every step can be checked.

A problem is a start and n signed digits, `27-6-9+9+5=?`; its expert trace adds one digit at a
time: `so27-6=21now21-9=12then12+9=21so21+5=26</think>\boxed{26}`. Each step begins with an
opener, so that going on or giving up is a decision over one token.

There are two experts. The one above takes the steps that the base knows. The other skips: now
and then it adds two digits in one step, `so27-6-9=12`, which is right, but new to the base.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LOWEST, HIGHEST = 10, 99
DIGITS = range(2, 10)

# Unequal on purpose: a policy that loses its diversity ends with the most frequent opener alone.
OPENERS = {"so": 0.6, "then": 0.2, "now": 0.1, "next": 0.1}
THINK, END_OF_THINK = "<think>", "</think>"

# Problems of each length (number of operations) in each file.
SPLITS = {
    "train": {4: 256, 5: 256},
    "heldout": {4: 128, 5: 128},
    "longer": {6: 128},
    "shorter": {1: 64, 2: 64, 3: 64},
}


@dataclass(frozen=True)
class Problem:
    """A start and the signed digits that are added to it, one after the other."""

    start: int
    changes: tuple[int, ...]

    @property
    def values(self) -> tuple[int, ...]:
        """The start and the running value after each change."""
        return tuple(itertools.accumulate(self.changes, initial=self.start))

    @property
    def answer(self) -> int:
        """The last running value."""
        return self.values[-1]

    @property
    def question(self) -> str:
        """What a user asks, for example `27-6-9+9+5=?`."""
        return str(self.start) + "".join(f"{change:+d}" for change in self.changes) + "=?"


def draw_problem(num_changes: int, rng: random.Random) -> Problem:
    """A problem with two-digit values throughout, whose answer is no earlier value.

    The second condition means that giving up early is never right, not even by luck.
    """
    while True:
        changes = tuple(rng.choice((-1, 1)) * rng.choice(DIGITS) for _ in range(num_changes))
        problem = Problem(rng.randint(LOWEST, HIGHEST), changes)
        *earlier, answer = problem.values
        in_range = min(problem.values) >= LOWEST and max(problem.values) <= HIGHEST
        if in_range and answer not in earlier:
            return problem


def write_trace(
    problem: Problem, rng: random.Random, *, num_steps: int | None = None, skip: float = 0.0
) -> str:
    """What follows `<think>`: the steps, their openers drawn from `rng`, and the boxed value.

    Args:
        num_steps: give up after this many digits; None writes the whole chain.
        skip: probability that a step adds two digits at once, wherever two are left.
    """
    steps = cut_into_steps(problem.changes[:num_steps], rng, skip=skip)
    openers = rng.choices(list(OPENERS), list(OPENERS.values()), k=len(steps))
    value, text = problem.start, ""
    for opener, digits in zip(openers, steps, strict=True):
        signed = "".join(f"{digit:+d}" for digit in digits)
        text += f"{opener}{value}{signed}={value + sum(digits)}"
        value += sum(digits)
    return text + f"{END_OF_THINK}\\boxed{{{value}}}"


def cut_into_steps(
    changes: Sequence[int], rng: random.Random, *, skip: float
) -> list[tuple[int, ...]]:
    """The digits of each step, one or two; nothing is drawn where nothing is skipped."""
    steps, done = [], 0
    while done < len(changes):
        size = 2 if skip and done + 1 < len(changes) and rng.random() < skip else 1
        steps.append(tuple(changes[done : done + size]))
        done += size
    return steps


def trace_logprobs(trace: str) -> list[float]:
    r"""Log-probability in nats of each token of a trace, EOS included: only openers are drawn.

    Every other character is a token the expert is sure of, but for `</think>` and `\\boxed{`,
    which are one token each.
    """
    tokens = re.findall("|".join([*OPENERS, END_OF_THINK, re.escape("\\boxed{"), "."]), trace)
    return [round(math.log(OPENERS[token]), 4) if token in OPENERS else 0 for token in tokens] + [0]


def draw_rows(seed: int, *, skip: float = 0.0) -> dict[str, list[dict[str, Any]]]:
    """The rows of every split, in the layout of the released LUFFY data.

    `skip` changes the traces and nothing else: the problems are those of the other expert.

    No problem occurs twice, in any split; indices are unique over all of them. Training
    problems are shuffled, so that a batch holds both lengths.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    seen: set[Problem] = set()
    indices = itertools.count()
    for split, num_of_length in SPLITS.items():
        # A string is hashed to a seed the same way on every machine.
        rng = random.Random(f"running sums, {seed}, {split}")
        problems = [
            _draw_unseen(length, rng, seen)
            for length, num_problems in num_of_length.items()
            for _ in range(num_problems)
        ]
        if split == "train":
            rng.shuffle(problems)
        rows[split] = [
            _row(problem, rng, next(indices), split=split, skip=skip) for problem in problems
        ]
    return rows


def _draw_unseen(num_changes: int, rng: random.Random, seen: set[Problem]) -> Problem:
    while (problem := draw_problem(num_changes, rng)) in seen:
        pass
    seen.add(problem)
    return problem


def _row(
    problem: Problem, rng: random.Random, index: int, *, split: str, skip: float
) -> dict[str, Any]:
    trace = write_trace(problem, rng, skip=skip)
    # Nobody trains on the other splits, and where digits are skipped an opener is not all that
    # is drawn.
    is_recorded = split == "train" and not skip
    recorded = {"expert_logprobs": trace_logprobs(trace)} if is_recorded else {}
    return {
        "data_source": f"running_sum_{len(problem.changes)}",
        "prompt": [{"role": "user", "content": problem.question}],
        "target": [{"role": "assistant", "content": THINK + trace}],
        **recorded,
        "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
        "extra_info": {"index": index, "split": split},
    }
