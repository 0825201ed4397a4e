"""What became of the rows of a data set: counted, and the first of each kind named."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

NUM_NAMED = 5


@dataclass
class NamedCount:
    """How many there were, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass
class LoadReport:
    """What became of the rows: `rows` = `prompts` + all that `dropped` counts.

    understood: what was guessed of its columns, and which files or split were chosen.
    dropped: rows, by reason: bad_row, other_source, prompt_too_long, no_trace,
        duplicate_prompt. Bad rows and long prompts are named by `file:row`, others by their id.
    dropped_traces: expert traces, by reason: too_long.
    noted: kept and worth knowing: duplicate_prompt, repeated_id, number_as_answer.
    """

    understood: list[str] = field(default_factory=list)
    rows: int = 0
    prompts: int = 0
    traces: int = 0
    dropped: dict[str, NamedCount] = field(default_factory=dict)
    dropped_traces: dict[str, NamedCount] = field(default_factory=dict)
    noted: dict[str, NamedCount] = field(default_factory=dict)

    def drop(self, reason: str, name: str) -> None:
        """Count a row that is left out."""
        _count(self.dropped, reason, name)

    def drop_trace(self, reason: str, name: str) -> None:
        """Count an expert trace that is left out."""
        _count(self.dropped_traces, reason, name)

    def note(self, what: str, name: str) -> None:
        """Count something that is kept."""
        _count(self.noted, what, name)

    def as_dict(self) -> dict[str, Any]:
        """For data_report.json."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """For the terminal: the totals, then a line for each thing out of the ordinary."""
        lines = [
            *self.understood,
            f"{self.rows} rows: {self.prompts} prompts, {self.traces} expert traces",
        ]
        for title, tallies in (
            ("dropped", self.dropped),
            ("expert traces dropped", self.dropped_traces),
            ("kept, but noted", self.noted),
        ):
            for reason, tally in tallies.items():
                lines.append(f"{title}: {tally.count} {reason}, first {', '.join(tally.first)}")
        return lines


def _count(tallies: dict[str, NamedCount], what: str, name: str) -> None:
    tally = tallies.setdefault(what, NamedCount())
    tally.count += 1
    if len(tally.first) < NUM_NAMED:
        tally.first.append(name)
