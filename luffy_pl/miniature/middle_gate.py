"""Is a base what the world with a middle needs? Figures, and the bounds they have to keep."""

from __future__ import annotations

import random
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from luffy_pl.miniature.answers import count_right
from luffy_pl.miniature.middle import SPLITS, GradedProblem, chat_prompt, draw_problem

SAMPLES = 16
"""Answers to each problem, at temperature 1."""
MAX_NEW_TOKENS = 56
PROBLEMS_SHARE = 4
"""As many times fewer problems than the training file has, of every kind."""

LOWEST_RATE, HIGHEST_RATE = 0.1, 0.9
MIN_IN_MIDDLE = 0.3
MAX_TURNS_SOLVED = 0.02
MIN_FIRST_RIGHT = 0.95


@dataclass(frozen=True)
class MiddleFigures:
    """What a base can do with problems like those of the training file.

    in_middle: share of all problems of which it solves between a tenth and nine tenths of
        `SAMPLES` answers.
    solved: by kind of problem (`plain_3`: three changes, no turn), share of right answers.
    knows_steps: greedy accuracy on one addition or subtraction.
    """

    in_middle: float
    solved: dict[str, float]
    knows_steps: float

    def failures(self) -> list[str]:
        """The bounds this base does not keep, in words; none if it passes."""
        found = []
        if self.in_middle < MIN_IN_MIDDLE:
            found.append(
                f"{self.in_middle:.2f} of the problems in the middle, below {MIN_IN_MIDDLE}"
            )
        for kind, solved in self.solved.items():
            if kind.startswith("turn") and solved > MAX_TURNS_SOLVED:
                found.append(f"solves {solved:.3f} of {kind}, above {MAX_TURNS_SOLVED}")
        if self.knows_steps < MIN_FIRST_RIGHT:
            found.append(f"accuracy on one change {self.knows_steps:.3f}, below {MIN_FIRST_RIGHT}")
        return found


def measure_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> MiddleFigures:
    """The figures of a base, always on the same problems and with the same draws."""
    rates: dict[str, list[float]] = {}
    for (length, num_turns), number in SPLITS["train"].items():
        rng = random.Random(f"gate, {num_turns} turns in {length}")
        problems = [draw_problem(length, num_turns, rng) for _ in range(number // PROBLEMS_SHARE)]
        right = count_right(
            model, tokenizer, _asked(problems), max_new_tokens=MAX_NEW_TOKENS, samples=SAMPLES
        )
        rates[problems[0].kind] = [count / SAMPLES for count in right]

    every = [rate for found in rates.values() for rate in found]
    rng = random.Random("gate, one change")
    asked = _asked([draw_problem(1, 0, rng) for _ in range(128)])
    first_right = count_right(model, tokenizer, asked, max_new_tokens=MAX_NEW_TOKENS)
    return MiddleFigures(
        in_middle=sum(LOWEST_RATE <= rate <= HIGHEST_RATE for rate in every) / len(every),
        solved={kind: sum(found) / len(found) for kind, found in rates.items()},
        knows_steps=sum(first_right) / len(first_right),
    )


def _asked(problems: list[GradedProblem]) -> list[tuple[str, int]]:
    return [(chat_prompt(problem), problem.answer) for problem in problems]
