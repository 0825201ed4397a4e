"""Agreement with tables of tricky pairs; README.md says where each comes from."""

import json
import logging
from pathlib import Path

import pytest

from luffy_pl.reward.math_verifier import MathVerifier

TABLES = Path(__file__).parent
PAIRS = TABLES / "pairs.jsonl"
DISPUTED = {116}
"""`X` for the gold `x`: equal in pairs.jsonl, different in outside.jsonl, where case counts."""


def rows_of(name):
    return [json.loads(line) for line in (TABLES / f"{name}.jsonl").read_text().splitlines()]


def wrong_of(rows, verifier):
    verdicts = verifier.grade([(row["prediction"], row["gold"]) for row in rows])
    wrong = [
        f"{row['prediction']!r} against {row['gold']!r}: wanted {row['equal']}, "
        f"got {verdict.correct} ({verdict.status}, {verdict.tier})"
        for row, verdict in zip(rows, verdicts, strict=True)
        if (verdict.correct is True) != row["equal"]
    ]
    logging.getLogger(__name__).info("%d of %d agree", len(rows) - len(wrong), len(rows))
    return "\n".join(wrong)


def test_verdicts_agree_with_the_first_table(verifier):
    rows = [row for row in rows_of("pairs") if row["id"] not in DISPUTED]
    assert len(rows) == 111
    assert wrong_of(rows, verifier) == ""


@pytest.fixture(scope="module")
def choosing():
    with MathVerifier(think_end=None, forms=("boxed", "choice"), workers=2) as verifier:
        yield verifier


@pytest.mark.parametrize("name", ["outside", "classes"])
def test_every_pair_of_the_classes_is_right(choosing, name):
    assert wrong_of(rows_of(name), choosing) == ""


def test_every_class_has_both_directions():
    rows = rows_of("classes")
    for name in {row["class"] for row in rows}:
        verdicts = [row["equal"] for row in rows if row["class"] == name]
        assert len(verdicts) >= 5
        assert set(verdicts) == {True, False}


def test_every_ending_of_a_choice_is_read():
    with MathVerifier(forms=("boxed", "choice")) as verifier:
        assert wrong_of(rows_of("endings"), verifier) == ""
