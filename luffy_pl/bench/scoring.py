"""A phase's answers through the grader, and through its reading alone."""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

from luffy_pl.bench.machine import WARM_UP
from luffy_pl.reward.math_verifier import MathVerifier

GROUP_SIZE = 8
SENTENCE = "So x_{%d} = \\frac{%d}{2} and we check that 3 \\cdot 4 = 12, hence (a+b)^2 > 0. "


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Answers per second, new ones and ones whose verdict is remembered: those are only read.

    Wall clock, since the comparisons run in other processes.
    """
    new_s: list[float] = []
    known_s: list[float] = []
    with MathVerifier(workers=args.workers) as verifier:
        for number in range(WARM_UP + args.steps):
            items = make_items(number * args.prompts, args)
            for times_s in (new_s, known_s):
                started_s = time.perf_counter()
                verdicts = verifier.grade(items)
                times_s.append(time.perf_counter() - started_s)
    right = sum(verdict.correct is True for verdict in verdicts)
    graded_s, read_s = median(new_s[WARM_UP:]), median(known_s[WARM_UP:])
    return {
        "bench": "scoring",
        "answers": len(items),
        "right": right,
        "answers_per_s": len(items) / graded_s,
        "limit_answers_per_s": len(items) / read_s,
        "fraction": read_s / graded_s,
    }


def make_items(first: int, args: argparse.Namespace) -> list[tuple[str, str]]:
    """Texts and golds; no problem has the number of another one of the run."""
    return [
        (response_text(answer, number=n * GROUP_SIZE + place, length=args.length), gold)
        for n in range(first + 2, first + 2 + args.prompts)
        for place in range(GROUP_SIZE)
        for gold, answer in [gold_and_answer(n, place)]
    ]


def gold_and_answer(n: int, place: int) -> tuple[str, str]:
    """Gold of a problem and one of four answers to it, half of them right."""
    kinds = (
        (str(n), (str(n), f"{n}.0", str(n + 1), f"{n}/7")),
        (f"{n}/7", (f"{n}/7", rf"\frac{{{n}}}{{7}}", f"{n}/9", str(n))),
        (rf"{n}\sqrt{{3}}", (rf"{n}\sqrt3", rf"\sqrt{{{3 * n * n}}}", rf"{n}\sqrt2", "3")),
        (f"x^2+{2 * n}x+{n * n}", (f"(x+{n})^2", f"{n * n}+{2 * n}x+x^2", f"(x-{n})^2", "x^2")),
    )
    gold, answers = kinds[n % len(kinds)]
    return gold, answers[place % len(answers)]


def response_text(answer: str, *, number: int, length: int) -> str:
    """A response of which only the end counts."""
    sentence = SENTENCE % (number, number)
    thought = (sentence * (length // len(sentence) + 1))[:length]
    return f"{thought}</think>The answer is $\\boxed{{{answer}}}$."
