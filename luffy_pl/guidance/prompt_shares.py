"""A share of help for each prompt, moved by its last group; the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence

from luffy_pl.guidance.hinter import SAMPLED
from luffy_pl.guidance.settings import PerPrompt
from luffy_pl.records import Group

Accuracy = tuple[str, float]
"""Id of a prompt, and the share of its sampled answers that were right."""


class PromptShares:
    """Shares by prompt id; part of checkpoints."""

    def __init__(self, config: PerPrompt) -> None:
        self.config = config
        self.of: dict[str, float] = {}

    def __call__(self, prompt_id: str) -> float:
        """The share of a prompt now."""
        return self.of.get(prompt_id, self.config.start)

    def update(self, found: Sequence[Accuracy]) -> None:
        """Take in a phase; sorted, so that the number of ranks does not decide."""
        for prompt_id, accuracy in sorted(found):
            self.of[prompt_id] = self.config.moved(self(prompt_id), accuracy)


def accuracies(groups: Sequence[Group]) -> list[Accuracy]:
    """The accuracy of each group in which the policy has sampled something that was graded."""
    found = []
    for group in groups:
        graded = [
            row.verdict.correct
            for row in group.responses
            if row.source in SAMPLED and row.verdict.correct is not None
        ]
        if graded:
            found.append((group.prompt.id, sum(graded) / len(graded)))
    return found
