"""Problems that occur twice: within a file, and in the file of a test set."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from luffy_pl.corpus.check.defects import Defect, shorten
from luffy_pl.corpus.check.rows import CheckedRow, user_text

WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
NGRAM = 8
"""Words of an n-gram; numbers and signs are words. OpenR1-Math and s1 compare 8-grams too."""
OVERLAP = 0.5
"""Share of the n-grams of either text that must occur in the other: phrases such as "where m and n
are relatively prime" are in many problems."""


def words(text: str) -> list[str]:
    """Words, numbers and signs, without case and spacing."""
    return WORD.findall(text.casefold())


def ngrams(text: str) -> set[int]:
    """Hashes of all n-grams; of the whole text where it is shorter than one."""
    found = words(text)
    places = range(max(1, len(found) - NGRAM + 1))
    return {hash(tuple(found[place : place + NGRAM])) for place in places}


class TestSet:
    """Problems that training must not see."""

    __test__ = False

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        """Index (`file:row`, text) pairs."""
        self._grams: list[int] = []
        self._where: list[str] = []
        self._of: dict[int, list[int]] = defaultdict(list)
        seen: set[frozenset[int]] = set()
        for where, text in texts:
            grams = frozenset(ngrams(text))
            if grams in seen:
                continue
            seen.add(grams)
            for gram in grams:
                self._of[gram].append(len(self._where))
            self._where.append(where)
            self._grams.append(len(grams))

    def overlap(self, text: str) -> tuple[str, float] | None:
        """The problem that shares most with `text`, and the share; None below OVERLAP."""
        grams = ngrams(text)
        shared = Counter(number for gram in grams for number in self._of.get(gram, ()))
        best: tuple[str, float] | None = None
        for number, count in shared.items():
            share = max(count / len(grams), count / self._grams[number])
            if share >= OVERLAP and (best is None or share > best[1]):
                best = self._where[number], share
        return best


class Repeats:
    """Remembers prompts and traces, and says which came before."""

    def __init__(self, test_set: TestSet) -> None:
        self.test_set = test_set
        self._prompts: dict[int, tuple[str, str]] = {}
        self._traces: dict[int, tuple[str, int]] = {}

    def row(self, row: CheckedRow) -> Iterator[Defect]:
        """Defects of one more row."""
        question = row.question
        text = user_text(question)
        key, gold = hash(tuple(words(text))), question.ground_truth
        first = self._prompts.setdefault(key, (question.where, gold))
        if first[0] != question.where:
            kind = "duplicate_prompt" if first[1] == gold else "gold_conflict"
            says = "the prompt" if first[1] == gold else f"another answer than {first[1]!r} to that"
            yield Defect(kind, question.where, question.id, f"{says} of {first[0]}")
        for trace in question.traces:
            before = self._traces.setdefault(hash(trace), (question.where, key))
            # The same trace under the same prompt is that duplicate again.
            if before[1] != key:
                yield Defect("repeated_trace", question.where, question.id, f"that of {before[0]}")
        if (found := self.test_set.overlap(text)) is not None:
            where, share = found
            what = f"shares {share:.0%} of its 8-grams with {where}: {shorten(text)!r}"
            yield Defect("test_overlap", question.where, question.id, what)
