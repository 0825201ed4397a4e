"""The paper's published rows, and those of work that measured against it.

published.csv is in percent. Averages are as printed: "average" over the six benchmarks of
mathematics (SRFT: five of them), "average_ood" over the other three; that of ExGRPO's row GPG is
printed so and is not the mean of its columns. Sources: LUFFY arXiv 2504.14945v5 (tables 1, 3, 4)
and the README of its first version; ExGRPO arXiv 2510.02245; HPT arXiv 2509.04419; the papers of
SRFT, ReLIFT and Prefix-RFT. Models are Qwen2.5-Math-7B unless their name says otherwise.

arXiv 2604.23747 disputes the supervised baselines of these papers. Its own rows are quoted from its
abstract and from secondary sources, with averages as that paper defines them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.table import Table
from rich.text import Text

from luffy_pl.evaluation.tables import plain_table
from luffy_pl.report.outcomes import EvaluationOutcome

FILE = Path(__file__).with_name("published.csv")
MATH = ("aime24", "aime25", "amc", "math500", "minerva", "olympiad")
OTHER = ("arc_c", "gpqa_diamond", "mmlu_pro")
HEADINGS = {
    "aime24": "AIME24",
    "aime25": "AIME25",
    "amc": "AMC",
    "math500": "MATH500",
    "minerva": "Minerva",
    "olympiad": "Olympiad",
    "average": "Avg",
    "arc_c": "ARC-c",
    "gpqa_diamond": "GPQA",
    "mmlu_pro": "MMLU-Pro",
    "average_ood": "OOD",
}
CAVEAT = (
    "Percent. The settings of these rows differ from yours unless you evaluated with conf/eval: "
    "compare only then. * Disputed: arXiv 2604.23747 reports two bugs in the training of this "
    "supervised baseline and gives corrected averages."
)


@dataclass(frozen=True)
class PublishedRow:
    """One policy; `percent` by benchmark, in percent, without those that were not measured."""

    source: str
    model: str
    percent: dict[str, float]
    is_disputed: bool = False

    @property
    def label(self) -> str:
        """The model, with a star where later work disputes the row."""
        return f"{self.model} *" if self.is_disputed else self.model


@dataclass(frozen=True)
class PublishedComparison:
    """Rows of ours and published rows over the same columns."""

    columns: tuple[str, ...]
    ours: tuple[PublishedRow, ...]
    published: tuple[PublishedRow, ...]


def read_published() -> list[PublishedRow]:
    """All rows of published.csv."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return [
            PublishedRow(
                line["source"],
                line["model"],
                {name: float(line[name]) for name in HEADINGS if line[name]},
                is_disputed=line["disputed"] == "yes",
            )
            for line in csv.DictReader(file)
        ]


def compare_published(
    outcomes: Sequence[tuple[str, EvaluationOutcome]],
) -> PublishedComparison | None:
    """Named outcomes beside the published rows; None if they share no benchmark.

    An average is a column only where all of its benchmarks were evaluated.
    """
    ours = [our_row(name, outcome) for name, outcome in outcomes]
    evaluated = {name for row in ours for name in row.percent}
    columns = tuple(name for name in HEADINGS if name in evaluated)
    if not columns:
        return None
    published = [row for row in read_published() if any(name in row.percent for name in columns)]
    return PublishedComparison(columns, tuple(row for row in ours if row.percent), tuple(published))


def our_row(name: str, outcome: EvaluationOutcome) -> PublishedRow:
    """Accuracy on the paper's benchmarks, found by their names in conf/eval."""
    values = {benchmark["name"]: benchmark["metrics"]["avg"]["value"]
              for benchmark in outcome.benchmarks}  # fmt: skip
    percent = {key: 100 * values[key] for key in (*MATH, *OTHER) if values.get(key) is not None}
    for average, parts in (("average", MATH), ("average_ood", OTHER)):
        if all(part in percent for part in parts):
            percent[average] = sum(percent[part] for part in parts) / len(parts)
    return PublishedRow(outcome.title, name, percent)


def published_table(comparison: PublishedComparison) -> Table:
    """For the terminal: ours first, then one section per source."""
    table = plain_table(
        "beside published results, in percent",
        ["model"],
        [HEADINGS[name] for name in comparison.columns],
    )
    for source, rows in groupby((*comparison.ours, *comparison.published), lambda row: row.source):
        table.add_row(Text(source, style="italic"))
        for row in rows:
            cells = (row.percent.get(name) for name in comparison.columns)
            table.add_row(
                Text(row.label), *("" if cell is None else f"{cell:.1f}" for cell in cells)
            )
        table.add_section()
    return table
