r"""Running sums with a middle: the base solves most problems sometimes, and some hardly ever.

A problem is a start and n changes: signed digits as in the world of the quickstart, and in a third
of the problems two `~`, each of which turns the value round. `27-6~+9=?` is 27, 21, 12, 21. It may
also be written in words, `27less6~plus9=?`. The expert takes every step and says the last value
again: `now27-6=21next21~=12then12+9=21thus21</think>\boxed{21}`.

The base differs in three ways. It often gives up before a subtraction and seldom before an
addition, so a problem is harder if more changes follow its first one. It passes over a turn: it
has read turns in books, some of them wrong, and hardly ever tries one in a chat, so that both turns
of a problem are out of its reach. And it opens most of its steps with other words than the expert.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luffy_pl.miniature.corpus import BOOK_SHARE, LONGEST_CHAIN, Text
from luffy_pl.miniature.tokenizer import ASSISTANT, BOOK, EOS, SPECIAL, USER
from luffy_pl.miniature.world import DIGITS, END_OF_THINK, HIGHEST, LOWEST, OPENERS, THINK

TURN = 0
"""The change that turns the two digits of a value round."""
AGAIN = "thus"
"""Says the last value again."""
PLUS, LESS = "plus", "less"
VOCABULARY = (
    *SPECIAL, THINK, END_OF_THINK,
    "\\boxed{", "}", *OPENERS, AGAIN, PLUS, LESS, *"0123456789+-=?~",
)  # fmt: skip

EXPERT_OPENERS = {"so": 0.1, "then": 0.2, "now": 0.3, "next": 0.4}

# How often the base goes on in a chat, before an addition and before a subtraction.
GO_ON_PLUS, GO_ON_LESS = 0.85, 0.4
# How often the base tries a turn, in a book and in a chat, and how often it is then right.
TRIES_TURN_BOOK, TRIES_TURN = 0.6, 0.02
KNOWS_TURN = 0.8
# How often it says the last value again; and how often texts are in words, and hold turns.
SAYS_AGAIN = 0.02
WORDS_SHARE = 0.25
TURN_SHARE = 0.4

# Problems of each kind (number of changes, turns among them) in each file.
SPLITS: dict[str, dict[tuple[int, int], int]] = {
    "train": {(2, 0): 64, (3, 0): 96, (4, 0): 96, (5, 0): 64, (3, 2): 64, (4, 2): 64, (5, 2): 64},
    "heldout": {(2, 0): 32, (3, 0): 48, (4, 0): 48, (5, 0): 32, (3, 2): 32, (4, 2): 32, (5, 2): 32},
    "longer": {(6, 0): 64, (6, 2): 64},
    "words": {(2, 0): 16, (3, 0): 24, (4, 0): 24, (5, 0): 16, (3, 2): 16, (4, 2): 16, (5, 2): 16},
}


def change_value(value: int, change: int) -> int:
    """The value after a change."""
    return value + change if change != TURN else int(str(abs(value))[::-1])


@dataclass(frozen=True)
class GradedProblem:
    """A start and the changes that follow; `TURN` is one of them, all others are signed digits."""

    start: int
    changes: tuple[int, ...]
    in_words: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """The start and the running value after each change."""
        return tuple(itertools.accumulate(self.changes, change_value, initial=self.start))

    @property
    def answer(self) -> int:
        """The last running value."""
        return self.values[-1]

    @property
    def kind(self) -> str:
        """`plain_4` for four changes without a turn, `turn_4` with one."""
        return f"{'turn' if TURN in self.changes else 'plain'}_{len(self.changes)}"

    @property
    def without_turns(self) -> GradedProblem:
        """The problem as the base reads it."""
        return GradedProblem(self.start, tuple(c for c in self.changes if c != TURN), self.in_words)

    @property
    def question(self) -> str:
        """What a user asks, for example `27-6~+9=?` or, in words, `27less6~plus9=?`."""
        changes = "".join(map(write_change, self.changes))
        if self.in_words:
            changes = changes.replace("+", PLUS).replace("-", LESS)
        return f"{self.start}{changes}=?"


def write_change(change: int) -> str:
    """`~` or a signed digit."""
    return f"{change:+d}" if change != TURN else "~"


def draw_problem(
    num_changes: int, num_turns: int, rng: random.Random, *, in_words: bool = False
) -> GradedProblem:
    """A problem whose values have two digits, whether turns are taken or passed over.

    Its answer is none of the other values on either way: neither giving up early nor passing over
    a turn is ever right.
    """
    while True:
        changes = [rng.choice((-1, 1)) * rng.choice(DIGITS) for _ in range(num_changes - num_turns)]
        for _ in range(num_turns):
            changes.insert(rng.randint(0, len(changes)), TURN)
        problem = GradedProblem(rng.randint(LOWEST, HIGHEST), tuple(changes), in_words)
        *earlier, answer = problem.values
        passed_over = problem.without_turns.values if num_turns else ()
        values = (*problem.values, *passed_over)
        if min(values) < LOWEST or max(values) > HIGHEST:
            continue
        if answer not in earlier and answer not in passed_over:
            return problem


def write_steps(
    start: int, steps: list[tuple[int, int]], openers: Mapping[str, float], rng: random.Random
) -> str:
    """Steps in a row, each a change and the value behind it; openers are drawn."""
    words = rng.choices(list(openers), list(openers.values()), k=len(steps))
    text = ""
    for word, (change, value) in zip(words, steps, strict=True):
        text += f"{word}{start}{write_change(change)}={value}"
        start = value
    return text


def close(value: int, *, again: bool) -> str:
    """The end of a thought, and the answer."""
    return (f"{AGAIN}{value}" if again else "") + f"{END_OF_THINK}\\boxed{{{value}}}"


def write_trace(problem: GradedProblem, rng: random.Random) -> str:
    """What the expert writes behind `<think>`."""
    steps = list(zip(problem.changes, problem.values[1:], strict=True))
    text = write_steps(problem.start, steps, EXPERT_OPENERS, rng)
    return text + close(problem.answer, again=True)


def write_base_answer(problem: GradedProblem, rng: random.Random, *, is_book: bool) -> str:
    """What the base writes behind `<think>`: a book never gives up, a chat may before each step."""
    value = problem.start
    steps: list[tuple[int, int]] = []
    for change in problem.changes:
        if change == TURN:
            if rng.random() >= (TRIES_TURN_BOOK if is_book else TRIES_TURN):
                continue
            turned = change_value(value, TURN)
            value = turned if rng.random() < KNOWS_TURN else rng.randint(LOWEST, HIGHEST)
        else:
            go_on = GO_ON_PLUS if change > 0 else GO_ON_LESS
            if steps and not is_book and rng.random() >= go_on:
                break
            value += change
        if not LOWEST <= value <= HIGHEST:
            break
        steps.append((change, value))
    last = steps[-1][1] if steps else problem.start
    text = write_steps(problem.start, steps, OPENERS, rng)
    return text + close(last, again=rng.random() < SAYS_AGAIN)


def chat_prompt(problem: GradedProblem) -> str:
    """What the chat template renders, up to the open thought."""
    return f"{USER}{problem.question}{ASSISTANT}{THINK}"


def draw_texts(num_texts: int, rng: random.Random) -> list[Text]:
    """Book pages and chats over problems of one length, so that little is padded."""
    length = rng.randint(1, LONGEST_CHAIN)
    texts = []
    for _ in range(num_texts):
        num_turns = min(length - 1, rng.choice((1, 2))) if rng.random() < TURN_SHARE else 0
        problem = draw_problem(length, num_turns, rng, in_words=rng.random() < WORDS_SHARE)
        is_book = rng.random() < BOOK_SHARE
        reader = BOOK if is_book else USER
        answer = write_base_answer(problem, rng, is_book=is_book)
        texts.append(Text(f"{reader}{problem.question}{ASSISTANT}{THINK}", answer + EOS))
    return texts


def draw_rows(seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of every split, in the layout of the released LUFFY data; no problem twice."""
    rows: dict[str, list[dict[str, Any]]] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    indices = itertools.count()
    for split, num_of_kind in SPLITS.items():
        rng = random.Random(f"running sums with turns, {seed}, {split}")
        problems: list[GradedProblem] = []
        for (length, num_turns), num_problems in num_of_kind.items():
            wanted = len(problems) + num_problems
            while len(problems) < wanted:
                problem = draw_problem(length, num_turns, rng, in_words=split == "words")
                if (problem.start, problem.changes) not in seen:
                    seen.add((problem.start, problem.changes))
                    problems.append(problem)
        if split == "train":
            rng.shuffle(problems)
        rows[split] = [_row(problem, rng, next(indices), split=split) for problem in problems]
    return rows


def _row(problem: GradedProblem, rng: random.Random, index: int, *, split: str) -> dict[str, Any]:
    return {
        "data_source": problem.kind,
        "prompt": [{"role": "user", "content": problem.question}],
        "target": [{"role": "assistant", "content": THINK + write_trace(problem, rng)}],
        "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
        "extra_info": {"index": index, "split": split},
    }
