"""`luffy-pl report --compare A B`: is one run better than the other on the same problems?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from luffy_pl.errors import StorageError
from luffy_pl.evaluation.problems import ProblemOutcome, has_problems, read_problems
from luffy_pl.evaluation.results import AVERAGES
from luffy_pl.evaluation.statistics import macro_average, paired_macro_average
from luffy_pl.evaluation.tables import percent, plain_table

DIFFERENCE = ("difference", "95% interval", "excludes 0")


@dataclass(frozen=True)
class Pairs:
    """The P problems of a benchmark that both runs graded."""

    benchmark: str
    before: Sequence[ProblemOutcome]
    after: Sequence[ProblemOutcome]

    @property
    def out_of_distribution(self) -> bool:
        """As the second run has it."""
        return self.after[0].out_of_distribution

    @property
    def num_answers(self) -> set[int]:
        """The k of both runs: fewest graded answers to a problem."""
        return {min(outcome.graded for outcome in run) for run in (self.before, self.after)}

    def accuracies(self) -> tuple[Tensor, Tensor]:
        """Share of correct answers, before and after, each [P]."""
        before_P, after_P = (
            torch.tensor([outcome.accuracy for outcome in run], dtype=torch.double)
            for run in (self.before, self.after)
        )
        return before_P, after_P


def paired_table(before: Path, after: Path) -> Table:
    """A line for each benchmark that both runs have, then their averages: second against first."""
    rows = paired_rows(before, after)
    if not rows:
        raise StorageError(
            str(after),
            f"has no problem in common with {before}",
            fix="compare runs that were evaluated on the same benchmarks",
        )
    table = plain_table(
        f"{after.name} against {before.name}: difference in percentage points, paired by problem",
        ["benchmark"],
        ["n", "k", before.name, after.name, *DIFFERENCE],
    )
    for row in rows:
        table.add_row(escape(row[0]), *row[1:])
    return table


def paired_with_first(folders: Sequence[Path]) -> dict[Path, list[list[str]]]:
    """Rows of the table of each later run against the first, where they share a problem."""
    evaluated = [folder for folder in folders if has_problems(folder)]
    if not folders or folders[0] not in evaluated:
        return {}
    rows = {after: paired_rows(folders[0], after) for after in evaluated[1:]}
    return {after: found for after, found in rows.items() if found}


def paired_rows(before: Path, after: Path) -> list[list[str]]:
    """Each benchmark that both runs have, then the averages over several: name and `cells`."""
    shared = read_pairs(before, after)
    rows = [[pairs.benchmark, *cells([pairs])] for pairs in shared]
    for is_ood, name in AVERAGES.items():
        members = [pairs for pairs in shared if pairs.out_of_distribution == is_ood]
        if len(members) > 1:
            rows.append([name, *cells(members)])
    return rows


def read_pairs(before: Path, after: Path) -> list[Pairs]:
    """Benchmarks with at least one problem that both runs graded."""
    in_before, in_after = read_problems(before), read_problems(after)
    found = []
    for benchmark, outcomes in in_before.items():
        others = in_after.get(benchmark, {})
        ids = sorted(outcomes.keys() & others.keys())
        if ids:
            found.append(Pairs(benchmark, [outcomes[i] for i in ids], [others[i] for i in ids]))
    return found


def cells(members: Sequence[Pairs]) -> list[str]:
    """n, k, both means, difference and interval: of a benchmark, or averaged over several."""
    accuracies = [pairs.accuracies() for pairs in members]
    before, after = (macro_average([both[run] for both in accuracies]).value for run in (0, 1))
    difference = paired_macro_average(accuracies)
    ks = sorted(set().union(*(pairs.num_answers for pairs in members)))
    return [
        str(sum(len(pairs.after) for pairs in members)),
        f"{ks[0]}" if len(ks) == 1 else f"{ks[0]}-{ks[-1]}",
        percent(before),
        percent(after),
        f"{100 * difference.value:+.1f}",
        f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]",
        "yes" if difference.excludes_zero else "no",
    ]
