r"""Answers graded per second: ours with two workers, and math_verify called alone.

    python experiments/verifier/speed.py

Every text has 29,000 characters of reasoning in front of its box, and no text occurs twice over
all rounds. `plain`: numbers, choices and words, every answer another one. `mixed`: 128 prompts
with 8 answers each, as a rollout phase has them; a third of the prompts asks for an expression,
an interval or a set.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from luffy_pl.reward.math_verifier import MathVerifier

PROMPTS, GROUP = 128, 8
ROUNDS = 3
REASONING = 29_000
SENTENCE = "So x_{%d} = \\frac{%d}{2} and we check that 3 \\cdot 4 = 12, hence (a+b)^2 > 0. "

Item = tuple[str, str]


def text(answer: str, number: int) -> str:
    """A response of which only the end counts."""
    sentence = SENTENCE % (number, number)
    thought = sentence * (REASONING // len(sentence) + 1)
    return f"{thought[:REASONING]}</think>The answer is $\\boxed{{{answer}}}$."


def plain_items(number: int) -> list[Item]:
    """Right and wrong numbers, choices and words in turn, none of which repeats."""
    items = []
    for n in range(number * PROMPTS * GROUP, (number + 1) * PROMPTS * GROUP):
        answer, gold = [
            (str(n), str(n)),
            (str(n + 1), str(n)),
            (f"{n}/8", str(n / 8)),
            (rf"\frac{{{n}}}{{8}}", f"{n + 1}/8"),
            (f"{n}.50", rf"\frac{{{2 * n + 1}}}{{2}}"),
            (rf"\text{{{'ABCD'[n % 4]}}}", "ABCD"[n // 4 % 4]),
            (rf"{n}\text{{ cm}}", str(n)),
            (rf"\text{{case {n}}}", "none"),
        ][n % 8]
        items.append((text(answer, n), gold))
    return items


def golds(n: int) -> tuple[str, list[str]]:
    """A gold, and the different answers its eight rollouts give: some right, some wrong."""
    kinds = [
        (str(n), [str(n), str(n + 1), f"{n}.0"]),
        (f"{n}/7", [f"{n}/7", rf"\frac{{{n}}}{{7}}", f"{n}/9"]),
        (str(n / 8), [f"{n}/8", str(n / 8), f"{n}/3"]),
        ("ABCD"[n % 4], ["A", "B", r"\text{(C)}", "D"]),
        (rf"{n}\text{{ cm}}", [str(n), rf"{n}\text{{ cm}}", str(n - 1)]),
        (f"({n}, {n + 1})", [f"({n},{n + 1})", f"({n + 1},{n})"]),
        (rf"{n}\sqrt{{3}}", [rf"{n}\sqrt3", rf"\sqrt{{{3 * n * n}}}", rf"{n}\sqrt2"]),
        (f"x^2+{2 * n}x+{n * n}", [f"(x+{n})^2", f"x^2+{2 * n}x+{n * n}", f"(x-{n})^2"]),
        (rf"[0,{n})\cup({n},\infty)", [rf"[0,{n})\cup({n},\infty)", rf"[0,{n}]", "[0,1]"]),
    ]
    return kinds[n % len(kinds)]


def mixed_items(number: int) -> list[Item]:
    """`PROMPTS` golds with `GROUP` answers each."""
    items = []
    for n in range(number * PROMPTS + 2, (number + 1) * PROMPTS + 2):
        gold, answers = golds(n)
        items += [(text(answers[i % len(answers)], n * GROUP + i), gold) for i in range(GROUP)]
    return items


def alone(items: list[Item]) -> int:
    """math_verify on the whole text, one after the other, as the released trainer calls it."""
    from math_verify import parse, verify

    return sum(verify(parse(f"${gold}$"), parse(answer)) for answer, gold in items)


def rate(grade: Callable[[list[Item]], int], rounds: list[list[Item]]) -> tuple[float, int]:
    """Median of answers per second over all rounds but the first, and answers found right."""
    rates, right = [], 0
    for items in rounds:
        started = time.perf_counter()
        right = grade(items)
        rates.append(len(items) / (time.perf_counter() - started))
    return statistics.median(rates[1:]), right


def main() -> None:
    """Print one table."""
    write = sys.stdout.write
    write(f"{'list':8}{'grader':22}{'right':>6}{'answers/s':>11}{'ratio':>7}\n")
    with MathVerifier(workers=2) as verifier:

        def ours(items: list[Item]) -> int:
            return sum(verdict.correct is True for verdict in verifier.grade(items))

        for name, make in (("plain", plain_items), ("mixed", mixed_items)):
            rounds = [make(number) for number in range(1, ROUNDS + 2)]
            # Alone, two rounds are enough: it is slow, and steady.
            slow, slow_right = rate(alone, rounds[-2:])
            fast, right = rate(ours, rounds)
            write(f"{name:8}{'math_verify alone':22}{slow_right:6d}{slow:11.0f}{1:7.1f}\n")
            write(f"{name:8}{'ours, 2 workers':22}{right:6d}{fast:11.0f}{fast / slow:7.1f}\n")


if __name__ == "__main__":
    main()
