"""Counts of each problem of an evaluation: what two runs are compared by, problem for problem.

<run>/evaluation/phase-000060-heldout.jsonl     of fit; <run>/validate/..., <run>/test/...
{"prompt_id": "heldout/7", "out_of_distribution": false, "samples": 4, "graded": 4, ...}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luffy_pl.errors import StorageError
from luffy_pl.process.files import write_file
from luffy_pl.run_dir.fields import Fields, is_count, is_text
from luffy_pl.run_dir.read import read_lines

FOLDERS = ("evaluation", "validate", "test")
FILE = re.compile(r"phase-(\d+)-(.+)\.jsonl")
PROBLEM = Fields({"prompt_id": is_text, "graded": is_count, "correct": is_count})


def write_problems(
    folder: Path,
    benchmark: str,
    *,
    phase: int,
    ids: Sequence[str],
    counts: Mapping[int, Mapping[str, int]],
    out_of_distribution: bool = False,
) -> None:
    """One line per answered problem; `counts` has them by their place in `ids`."""
    lines = []
    for number, of_problem in sorted(counts.items()):
        line = {"prompt_id": ids[number], "out_of_distribution": out_of_distribution}
        lines.append(json.dumps({**line, **of_problem}) + "\n")
    write_file(folder / f"phase-{phase:06d}-{benchmark}.jsonl", "".join(lines))


@dataclass(frozen=True)
class ProblemOutcome:
    """What the answers to one problem came to; graded is never 0."""

    graded: int
    correct: int
    out_of_distribution: bool

    @property
    def accuracy(self) -> float:
        """Share of correct answers."""
        return self.correct / self.graded


def problem_files(folder: Path) -> dict[Path, tuple[int, str]]:
    """Phase and benchmark of each file of counts in a folder."""
    found = [(file, FILE.fullmatch(file.name)) for file in sorted(folder.glob("*"))]
    return {file: (int(match[1]), match[2]) for file, match in found if match}


def has_problems(run_dir: Path) -> bool:
    """Whether `read_problems` finds an evaluation."""
    return any(problem_files(run_dir / name) for name in FOLDERS)


def read_problems(run_dir: Path) -> dict[str, dict[str, ProblemOutcome]]:
    """Outcome by benchmark and prompt id, of the last phase that was evaluated."""
    for name in FOLDERS:
        files = problem_files(run_dir / name)
        if files:
            last = max(phase for phase, _ in files.values())
            return {
                benchmark: read_problem_outcomes(file)
                for file, (phase, benchmark) in files.items()
                if phase == last
            }
    raise StorageError(
        str(run_dir),
        f"holds no evaluation (looked in {', '.join(FOLDERS)})",
        fix="give the folder of a run of fit, validate or test: outputs/<name>",
    )


def read_problem_outcomes(file: Path) -> dict[str, ProblemOutcome]:
    """Outcome by prompt id; a problem that could not be graded has none."""
    return {
        line["prompt_id"]: ProblemOutcome(
            line["graded"], line["correct"], line.get("out_of_distribution", False)
        )
        for line in read_lines(file, PROBLEM)
        if line["graded"]
    }
