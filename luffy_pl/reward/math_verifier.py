"""Our own grader: texts and golds in, verdicts out.

    text -> extract -> cheap tiers -> gate -> sympy in a worker -> Verdict

A pair of answer and gold is graded once, however often it occurs. A gold that does not
verify against itself grades nobody: its verdicts have `correct=None`. A gold whose check ran out
of time is none of those: what a busy machine does is no property of the data.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from luffy_pl.answer.compare import compare_cheaply, is_gradable
from luffy_pl.answer.gate import refusal
from luffy_pl.answer.symbolic import compare_symbolically
from luffy_pl.answer.tolerance import Tolerance
from luffy_pl.records import Progress, Prompt, Verdict
from luffy_pl.reward.closing import Closing
from luffy_pl.reward.extract import AnswerForm, Extraction, extract_answer
from luffy_pl.reward.pool import ComparisonPool
from luffy_pl.reward.row_verifier import gold_of
from luffy_pl.reward.worker import Comparison

CACHED_PAIRS = 1 << 13
"""Verdicts, and golds that sympy reads, remembered across calls; about 10 MB at most."""
GOLD_TRIES = 3
"""A gold that could not be checked in time so often is not checked again."""

Value = TypeVar("Value")


@dataclass
class VerdictBatch:
    """Verdicts of one call, filled in as they come."""

    verdicts: list[Verdict | None]
    on_progress: Progress | None
    places: dict[tuple[Extraction, str], list[int]] = field(default_factory=dict)
    num_done: int = 0

    def settle(self, key: tuple[Extraction, str], verdict: Verdict) -> None:
        """Give `verdict` to every item of `key`."""
        for place in self.places[key]:
            self.verdicts[place] = verdict
        self.num_done += len(self.places[key])
        if self.on_progress is not None:
            self.on_progress(self.num_done, len(self.verdicts))


class MathVerifier(Closing):
    """Grades answers to mathematical and multiple-choice questions; safe from any thread."""

    reads_gold = True

    def __init__(
        self,
        *,
        think_end: str | None = "</think>",
        forms: tuple[AnswerForm, ...] = ("boxed",),
        workers: int = 2,
        timeout_s: int = 6,
        tolerance: Tolerance = Tolerance(),  # noqa: B008  frozen
    ) -> None:
        self.think_end = think_end
        self.forms = forms
        self.tolerance = tolerance
        self._pool = ComparisonPool(
            workers=workers,
            timeout_s=timeout_s,
            compare=partial(compare_symbolically, tolerance=tolerance),
        )
        self._verdicts: _Remembered[tuple[str, str], Verdict] = _Remembered(CACHED_PAIRS)
        self._gradable: _Remembered[str, bool] = _Remembered(CACHED_PAIRS)
        self._tries: Counter[str] = Counter()

    def grade(
        self, items: Sequence[tuple[str, Prompt | str]], on_progress: Progress | None = None
    ) -> list[Verdict]:
        """One verdict per (text, prompt or its gold), in order.

        Raises:
            VerifierError: the workers cannot run (exit code 6).
        """
        batch = VerdictBatch([None] * len(items), on_progress)
        golds = [gold_of(about) for _, about in items]
        for place, ((text, _), gold) in enumerate(zip(items, golds, strict=True)):
            extraction = extract_answer(text, think_end=self.think_end, forms=self.forms)
            batch.places.setdefault((extraction, gold), []).append(place)
        usable = dict(zip(golds, self.check_golds(golds), strict=True))
        undecided: list[tuple[Extraction, str]] = []
        for key in batch.places:
            verdict = self._grade_cheaply(*key, is_usable=usable[key[1]])
            if verdict is None:
                undecided.append(key)
            else:
                batch.settle(key, verdict)
        self._pool.count_decided(len(batch.places) - len(undecided))
        self._grade_symbolically(undecided, batch)
        return [verdict for verdict in batch.verdicts if verdict is not None]

    def check_gold(self, gold: str) -> bool:
        """Whether answers can be graded against `gold`."""
        return self.check_golds([gold])[0]

    def check_golds(self, golds: Sequence[str]) -> list[bool]:
        """`check_gold` of many, at once."""
        found = {gold: is_gradable(gold) for gold in dict.fromkeys(golds)}
        for gold in [gold for gold, known in found.items() if known is None]:
            found[gold] = self._gradable.get(gold)
        undecided = [gold for gold, known in found.items() if known is None]
        tried = [gold for gold in undecided if self._tries[gold] < GOLD_TRIES]
        compared = self._pool.compare([(gold, gold) for gold in tried])
        for gold, comparison in zip(tried, compared, strict=True):
            if comparison.status == "ok":
                found[gold] = comparison.equal
                self._gradable.put(gold, comparison.equal)
            else:
                self._tries[gold] += 1
        return [found[gold] is not False for gold in golds]

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def _grade_cheaply(
        self, extraction: Extraction, gold: str, *, is_usable: bool
    ) -> Verdict | None:
        """A verdict without sympy, None if it takes sympy."""
        start = time.perf_counter()
        answer = extraction.answer
        if not is_usable:
            return Verdict(None, "gold_bad", "gold", answer, gold)
        if answer is None:
            return Verdict(False, extraction.status, "extract", None, gold)
        if known := self._verdicts.get((answer, gold)):
            return known
        decision = compare_cheaply(answer, gold, self.tolerance)
        equal, status, tier = decision.equal, "ok", decision.tier
        if equal is None and (why := refusal(answer, gold)):
            equal, tier = False, f"gate:{why}"
        if equal is None:
            return None
        if tier.startswith("gate:"):
            status = "refused"
        ms = 1000.0 * (time.perf_counter() - start)
        verdict = Verdict(equal, status, tier, answer, gold, ms)
        self._verdicts.put((answer, gold), verdict)
        return verdict

    def _grade_symbolically(self, keys: list[tuple[Extraction, str]], batch: VerdictBatch) -> None:
        pairs = [(extraction.answer or "", gold) for extraction, gold in keys]

        def settle(index: int, found: Comparison) -> None:
            answer, gold = pairs[index]
            verdict = Verdict(found.equal, found.status, "sympy", answer, gold, found.ms)
            if found.status == "ok":
                self._verdicts.put((answer, gold), verdict)
            batch.settle(keys[index], verdict)

        self._pool.compare(pairs, settle)


Key = TypeVar("Key")


class _Remembered(Generic[Key, Value]):
    """The last `size` results; what was used least recently goes first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self.size:
                self._values.popitem(last=False)
