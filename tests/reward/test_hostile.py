"""What a model may write to stop the grader, all at once, and what its neighbours get."""

import logging
import random
import string
import time
from pathlib import Path

import psutil
import pytest
from hostile_cases import HOSTILE
from reward_cases import ALL

from luffy_pl.answer.compare import compare_cheaply
from luffy_pl.answer.gate import refusal
from luffy_pl.reward.extract import extract_answer
from luffy_pl.reward.math_verifier import MathVerifier
from luffy_pl.reward.worker import MEMORY_LIMIT_BYTES

GOLD = r"2\sqrt{3}"
PROMISED_S = 20
FORMS = ("boxed", "hash", "choice", "final")


def ordinary(number, *, start):
    """Right and wrong answers in turn, of which two in three need sympy."""
    cases = []
    for n in range(start, start + number):
        square, root = f"x^2+{2 * n}x+{n * n}", rf"\sqrt{{{2 * n * n}}}"
        right = [(f"{n}/4", str(n / 4)), (f"(x+{n})^2", square), (rf"{n}\sqrt2", root)][n % 3]
        wrong = [(f"{n}/4", str(n / 4 + 1)), (f"(x-{n})^2", square), (rf"-{n}\sqrt2", root)][n % 3]
        cases.append((*right, True) if n % 2 else (*wrong, False))
    return cases


def peak_memory(process):
    """The largest address space a process has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmPeak:")[2].split()[0]) * 1024


@pytest.mark.case(34, 35)
@pytest.mark.slow
def test_hostile_answers_harm_nobody_else():
    assert len(HOSTILE) >= 61
    cases = [*ALL, *ordinary(200 - len(ALL), start=1)]
    items = [(text, GOLD) for text in HOSTILE]
    items += [(rf"\boxed{{{answer}}}", gold) for answer, gold, _ in cases]
    order = random.Random(0).sample(range(len(items)), len(items))
    before = set(psutil.Process().children())
    with MathVerifier(think_end=None, forms=FORMS, workers=2) as verifier:
        started = time.monotonic()
        found = dict(zip(order, verifier.grade([items[i] for i in order]), strict=True))
        took = time.monotonic() - started
        workers = set(psutil.Process().children()) - before
        peak = max(peak_memory(worker) for worker in workers)
        fresh = ordinary(100, start=1000)
        after = verifier.grade([(rf"\boxed{{{answer}}}", gold) for answer, gold, _ in fresh])
    logging.getLogger(__name__).info(
        "%d hostile and %d ordinary answers: %.1f s, a worker's address space at most %d MB",
        len(HOSTILE), len(cases), took, peak >> 20,
    )  # fmt: skip
    assert peak <= MEMORY_LIMIT_BYTES
    assert not any(found[i].correct for i in range(len(HOSTILE)))
    verdicts = [found[i] for i in range(len(HOSTILE), len(items))]
    assert [v.correct for v in verdicts] == [equal for _, _, equal in cases]
    assert [v.correct for v in after] == [equal for _, _, equal in fresh]
    assert took < 2 * PROMISED_S, f"{took:.0f} s, where others may be at work as well"


def mutated(generator, number):
    """Answers with characters dropped, doubled, swapped for others or cut off; and noise."""
    pieces = [
        *string.printable,
        "\\frac{",
        "\\sqrt",
        "\\boxed{",
        "^{",
        "}",
        "½",
        "\u202e",
        "\ud800",
    ]
    for _ in range(number):
        if generator.random() < 0.3:
            yield "".join(generator.choices(pieces, k=generator.randint(0, 60)))
            continue
        text = list(generator.choice(ALL)[generator.randint(0, 1)])
        for _ in range(generator.randint(1, 6)):
            place = generator.randint(0, len(text))
            text[place : place + generator.randint(0, 2)] = generator.choices(
                pieces, k=generator.randint(0, 2)
            )
        yield "".join(text)


def test_ten_thousand_strings_raise_nothing_and_hang_nothing(verifier):
    generator = random.Random(1)
    undecided = []
    started = time.monotonic()
    for answer in mutated(generator, 10_000):
        gold = generator.choice(ALL)[1]
        for text in (answer, rf"So \boxed{{{answer}}}."):
            extract_answer(text, think_end=None, forms=FORMS)
        if compare_cheaply(answer, gold).equal is None and refusal(answer, gold) is None:
            undecided.append((rf"\boxed{{{answer}}}", gold))
    took = time.monotonic() - started
    logging.getLogger(__name__).info("10,000 strings: %.1f s, %d need sympy", took, len(undecided))
    assert took < PROMISED_S
    # Of those that sympy would have to read, some: each takes milliseconds.
    verdicts = verifier.grade(undecided[:500])
    assert len(verdicts) == 500
    assert all(v.status in {"ok", "no_answer", "truncated", "timeout", "refused"} for v in verdicts)
