"""Golds of the released evaluation files, against themselves and against each other."""

import random

import pyarrow.parquet as pq
import pytest

from luffy_pl.reward.math_verifier import MathVerifier

FILES = ("valid.all", "valid.arc_c", "valid.gpqa")
NUM_PAIRS = 2000
# Pairs of different texts that a person found to be equal.
REVIEWED_EQUAL = {("36", r"36^\circ"), (r"\frac{1}{3}", "$1/3$")}
# Read by nobody: an unclosed "$t(0,4]$".
UNREADABLE = 1


def golds_of(folder):
    """Every different gold, in the order of the files."""
    found = {}
    for name in FILES:
        table = pq.read_table(folder / f"{name}.parquet", columns=["reward_model"])
        found |= {str(row["ground_truth"]): None for row in table["reward_model"].to_pylist()}
    return list(found)


def verdicts_of(golds):
    """Each gold against itself and random others, in one batch."""
    # A busy machine must not decide which golds are readable.
    with MathVerifier(think_end=None, workers=2, timeout_s=60) as verifier:
        usable = [g for g, good in zip(golds, verifier.check_golds(golds), strict=True) if good]
        generator = random.Random(0)
        others = [tuple(generator.sample(usable, 2)) for _ in range(NUM_PAIRS)]
        pairs = [(gold, gold) for gold in usable] + others
        found = verifier.grade([(rf"\boxed{{{answer}}}", gold) for answer, gold in pairs])
    return list(zip(pairs, found, strict=True))


@pytest.mark.slow
def test_golds_equal_themselves_and_no_others(released_files):
    golds = golds_of(released_files)
    verdicts = verdicts_of(golds)
    own = [verdict for (answer, gold), verdict in verdicts if answer == gold]
    assert len(golds) - len(own) == UNREADABLE
    assert all(verdict.correct is True for verdict in own)
    cross = [(pair, verdict) for pair, verdict in verdicts if pair[0] != pair[1]]
    assert len(cross) == NUM_PAIRS
    assert {pair for pair, verdict in cross if verdict.correct} <= REVIEWED_EQUAL
    # None is different only because nobody could tell.
    assert {verdict.status for _, verdict in cross} == {"ok"}
