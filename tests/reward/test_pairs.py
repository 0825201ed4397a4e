"""Agreement with a table of tricky pairs that was made without looking at this code."""

import json
import logging
from pathlib import Path

PAIRS = Path(__file__).parent / "pairs.jsonl"
WANTED = 0.95


def test_verdicts_agree_with_the_table(verifier):
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    verdicts = verifier.grade([(row["prediction"], row["gold"]) for row in rows])
    wrong = [
        f"{row['id']} {row['prediction']!r} against {row['gold']!r}: wanted {row['equal']}, "
        f"got {verdict.correct} ({verdict.status}, {verdict.tier})"
        for row, verdict in zip(rows, verdicts, strict=True)
        if (verdict.correct is True) != row["equal"]
    ]
    logging.getLogger(__name__).info("%d of %d agree", len(rows) - len(wrong), len(rows))
    assert len(wrong) <= (1 - WANTED) * len(rows), "\n".join(wrong)
