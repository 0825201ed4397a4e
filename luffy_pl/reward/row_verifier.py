"""A grader that is a function of one response, called as the run calls the built-in ones."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from luffy_pl.records import Progress, Prompt, Verdict
from luffy_pl.reward.closing import Closing
from luffy_pl.reward.functions import call, failure, parameters

WHERE = "data.reward.grader"


def gold_of(prompt: Prompt | str) -> str:
    """The gold of what was asked; a plain text is the gold itself."""
    return prompt if isinstance(prompt, str) else prompt.ground_truth


class RowVerifier(Closing):
    """Grades by `(prompt, text)` or `(prompt, text, gold)`, one response after another.

    The function runs in this process and returns a bool, None if nobody can say, or a Verdict. One
    with a third parameter reads the gold, so a row has to have one.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function
        self.reads_gold = len(parameters(function)) == 3

    def grade(
        self, items: Sequence[tuple[str, Prompt | str]], on_progress: Progress | None = None
    ) -> list[Verdict]:
        """One verdict per (text, prompt), in order.

        Raises:
            VerifierError: the function fails, or returns something else than a grade.
        """
        verdicts = []
        for text, about in items:
            prompt = Prompt("", "", (), about) if isinstance(about, str) else about
            verdicts.append(self._verdict(prompt, text))
            if on_progress is not None:
                on_progress(len(verdicts), len(items))
        return verdicts

    def check_golds(self, golds: Sequence[str]) -> list[bool]:
        """The function says of each answer whether it can be graded, and not of a gold."""
        return [True] * len(golds)

    def close(self) -> None:
        """There is nothing to end."""

    def _verdict(self, prompt: Prompt, text: str) -> Verdict:
        gold = [prompt.ground_truth] if self.reads_gold else []
        start = time.perf_counter()
        found = call(self.function, prompt, text, *gold, prompt=prompt, where=WHERE)
        ms = 1000.0 * (time.perf_counter() - start)
        if found is None or isinstance(found, bool):
            status = "gold_bad" if found is None else "ok"
            return Verdict(found, status, self.name, None, prompt.ground_truth, ms)
        if isinstance(found, Verdict):
            # An answer is found again by its prompt and gold.
            return dataclasses.replace(found, gold=prompt.ground_truth)
        raise failure(prompt, "returns no grade", value=repr(found)[:80], where=WHERE)
