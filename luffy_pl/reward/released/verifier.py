"""The released graders by name, to be compared with published numbers.

Unlike ours they leave no problem out: a gold they cannot read makes every answer wrong.
The released training grades `openai/gsm8k` and `lighteval/MATH` by scorers of verl's own, which
are not here: a grader is used for every data source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from luffy_pl.records import Progress, Prompt, Verdict
from luffy_pl.reward.closing import Closing
from luffy_pl.reward.extract import Extraction
from luffy_pl.reward.math_verifier import VerdictBatch
from luffy_pl.reward.pool import ComparisonPool
from luffy_pl.reward.released.compare import compare_released
from luffy_pl.reward.released.text import Released, last_box, read_gold, read_response
from luffy_pl.reward.row_verifier import gold_of
from luffy_pl.reward.worker import Comparison

V1_CORRECT, V1_WRONG, V1_NO_ANSWER = 1.0, -0.5, -1.0
"""What luffy_v1 pays; the last also where the gold cannot be read."""


class ReleasedVerifier(Closing):
    """Grades as `grader` does; safe from any thread. Every comparison runs in a worker."""

    reads_gold = True

    def __init__(self, grader: Released, *, workers: int = 2, timeout_s: int = 6) -> None:
        self.grader = grader
        self._pool = ComparisonPool(
            workers=workers,
            timeout_s=timeout_s,
            compare=partial(compare_released, grader=grader),
        )

    def grade(
        self, items: Sequence[tuple[str, Prompt | str]], on_progress: Progress | None = None
    ) -> list[Verdict]:
        """One verdict per (text, prompt or its gold), in order; none has `correct=None`.

        Raises:
            VerifierError: the workers cannot run (exit code 6).
        """
        batch = VerdictBatch([None] * len(items), on_progress)
        golds = [gold_of(about) for _, about in items]
        for place, ((text, _), gold) in enumerate(zip(items, golds, strict=True)):
            batch.places.setdefault((read_response(self.grader, text), gold), []).append(place)
        undecided, pairs = [], []
        for key in batch.places:
            answer, wanted = key[0].answer, read_gold(self.grader, key[1])
            if answer is None or wanted is None:
                batch.settle(key, self._verdict(*key, None))
            else:
                undecided.append(key)
                pairs.append((answer, wanted))
        self._pool.compare(
            pairs, lambda i, found: batch.settle(undecided[i], self._verdict(*undecided[i], found))
        )
        return [verdict for verdict in batch.verdicts if verdict is not None]

    def check_golds(self, golds: Sequence[str]) -> list[bool]:
        """The released graders refuse no gold."""
        return [True] * len(golds)

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def _verdict(self, extraction: Extraction, gold: str, found: Comparison | None) -> Verdict:
        """`found` is None where there was nothing to compare."""
        answer = extraction.answer
        if answer is not None and self.grader in ("luffy_v3", "luffy_v4"):
            answer = last_box(answer)  # what it decided by is known to math_verify alone
        if found is None:
            status = extraction.status if extraction.answer is None else "gold_bad"
            verdict = Verdict(False, status, self.grader, answer, gold, reward=V1_NO_ANSWER)
        else:
            paid = V1_CORRECT if found.equal else V1_WRONG
            verdict = Verdict(
                found.equal, found.status, self.grader, answer, gold, found.ms, reward=paid
            )
        return verdict if self.grader == "luffy_v1" else replace(verdict, reward=None)
