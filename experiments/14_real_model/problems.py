r"""Word problems of one and two steps for experiment 14, with worked solutions as expert traces.

Each line of a file holds `prompt`, `answer` and `trace`. A prompt shows an example first.
A trace has one equation per step and, on the next line, the answer as GSM8K marks it: `6 + 7 = 13.
13 - 4 = 9.` and `#### 9`. No training problem has the kind and the numbers of a test problem.

python experiments/14_real_model/problems.py OUT [--seed 0] [--train 480] [--test 300]
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

NAMES = ("Ada", "Ben", "Cleo", "Dev", "Elif", "Finn", "Gita", "Hugo", "Ines", "Jun", "Kofi", "Lena")
THINGS = ("apples", "shells", "stamps", "coins", "pencils", "cards", "marbles", "buttons", "books")


EXAMPLE = (
    {"role": "system", "content": "Solve the problem."},
    {"role": "user", "content": "Mia has 6 pens and buys 3 more. How many pens does Mia have now?"},
    {"role": "assistant", "content": "Mia has 6 + 3 = 9 pens.\n#### 9"},
)
"""What stands before each question: without it the model hardly ever ends with `####`."""


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    text: with places for the numbers a, b and c, a name and the things.
    ranges: smallest and largest value of each number.
    steps: operations in order; None stands for the result of the step before.
    """

    text: str
    ranges: tuple[tuple[int, int], ...]
    steps: Callable[..., tuple[tuple[int | None, str, int], ...]]


@dataclass(frozen=True)
class Problem:
    """One line of a file."""

    prompt: tuple[dict[str, str], ...]
    answer: str
    trace: str


SUM, PART, FACTOR = (3, 20), (2, 9), (2, 9)
KINDS = (
    Kind(
        "{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
        (SUM, PART),
        lambda a, b: ((a, "+", b),),
    ),
    Kind(
        "{name} has {a} {things} and gives away {b}. How many {things} does {name} have left?",
        ((10, 20), PART),
        lambda a, b: ((a, "-", b),),
    ),
    Kind(
        "{name} has {a} boxes with {b} {things} in each box. "
        "How many {things} does {name} have in all?",
        (FACTOR, (2, 12)),
        lambda a, b: ((a, "*", b),),
    ),
    Kind(
        "{name} reads {b} pages a day for {a} days. How many pages does {name} read in all?",
        (FACTOR, (2, 12)),
        lambda a, b: ((a, "*", b),),
    ),
    Kind(
        "{name} has {a} boxes with {b} {things} in each box and buys {c} more {things}. "
        "How many {things} does {name} have now?",
        (FACTOR, FACTOR, PART),
        lambda a, b, c: ((a, "*", b), (None, "+", c)),
    ),
    Kind(
        "{name} has {a} {things}, buys {b} more and gives away {c}. "
        "How many {things} does {name} have left?",
        (SUM, PART, (2, 4)),
        lambda a, b, c: ((a, "+", b), (None, "-", c)),
    ),
)
"""Four kinds of one step, two of two."""
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}


def solve(steps: tuple[tuple[int | None, str, int], ...]) -> tuple[int, str]:
    """The last result, and the steps as equations."""
    result, equations = 0, []
    for given, sign, right in steps:
        left = result if given is None else given
        result = OPERATIONS[sign](left, right)
        equations.append(f"{left} {sign} {right} = {result}.")
    return result, " ".join(equations)


def make_problem(kind: Kind, numbers: tuple[int, ...], rng: random.Random) -> Problem:
    """The problem of a kind with these numbers, about a person and things that are drawn."""
    words = {"name": rng.choice(NAMES), "things": rng.choice(THINGS)}
    question = kind.text.format(**words, **dict(zip("abc", numbers, strict=False)))
    prompt = (*EXAMPLE, {"role": "user", "content": question})
    answer, equations = solve(kind.steps(*numbers))
    return Problem(prompt, str(answer), f"{equations}\n#### {answer}")


def draw_numbers(kind: Kind, taken: set[tuple[int, ...]], rng: random.Random) -> tuple[int, ...]:
    """Numbers that are not taken."""
    while True:
        numbers = tuple(rng.randint(*ends) for ends in kind.ranges)
        if numbers not in taken:
            return numbers


def draw_splits(num_train: int, num_test: int, *, seed: int) -> dict[str, list[Problem]]:
    """Problems of each split; the test problems first, which no others may repeat."""
    rng = random.Random(f"{seed}-test")
    taken: dict[Kind, set[tuple[int, ...]]] = {kind: set() for kind in KINDS}
    test = []
    for kind in by_turns(num_test):
        numbers = draw_numbers(kind, taken[kind], rng)
        taken[kind].add(numbers)
        test.append(make_problem(kind, numbers, rng))
    rng = random.Random(f"{seed}-train")
    train = [
        make_problem(kind, draw_numbers(kind, taken[kind], rng), rng)
        for kind in by_turns(num_train)
    ]
    return {"train": train, "test": test}


def by_turns(num: int) -> list[Kind]:
    """A kind for each of `num` problems."""
    return [KINDS[number % len(KINDS)] for number in range(num)]


def main() -> None:
    """Write a file per split."""
    parser = argparse.ArgumentParser(description="Word problems with worked solutions.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=480, help="problems (480)")
    parser.add_argument("--test", type=int, default=300, help="problems (300)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    splits = draw_splits(arguments.train, arguments.test, seed=arguments.seed)
    for split, problems in splits.items():
        lines = "".join(json.dumps(asdict(problem)) + "\n" for problem in problems)
        (arguments.out / f"{split}.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
