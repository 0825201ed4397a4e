"""Answers of a run as its page shows them: the lines of `write_groups`, and their lengths.

<run>/test/answers, <run>/validate/answers, <run>/predictions: by benchmark, shares of ranks and of
batches together. <run>/rollouts: by phase.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from luffy_pl.report.page.embed import visible
from luffy_pl.report.page.token_values import MAX_TOKENS, TokenColumns, read_values
from luffy_pl.run_dir.read import iterate_lines

FOLDERS = {"test": "test/answers", "validate": "validate/answers", "predict": "predictions"}
# <benchmark>-<rank>.jsonl of an evaluation, <benchmark>-<rank>-<chunk>.jsonl of a prediction.
FILE = re.compile(r"(?P<benchmark>.+?)-\d+(?:-\d{4})?\.jsonl")
# Answers and characters of answers that a page carries: more makes it slow to open.
MAX_ANSWERS = 10_000
MAX_CHARACTERS = 40_000_000
# What the filters and the table of a page use of a line and of its verdict.
OF_LINE = ("source", "response", "tokens", "finish_reason", "reward", "advantage")
OF_VERDICT = ("correct", "status", "tier", "extracted", "gold")


@dataclass
class AnswerLengths:
    """Lengths in tokens; answers that could not be graded are in neither."""

    title: str
    correct: list[int] = field(default_factory=list)
    incorrect: list[int] = field(default_factory=list)

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Lines of rollouts; an expert's length is not the policy's."""
        for line in lines:
            correct = verdict(line).get("correct")
            tokens = line.get("tokens")
            if line.get("source") != "expert" and isinstance(tokens, int) and correct is not None:
                (self.correct if correct else self.incorrect).append(tokens)


@dataclass
class Shown:
    """Groups on the page of one set, which is a benchmark of a command or a phase of rollouts."""

    label: str
    groups: list[dict[str, Any]] = field(default_factory=list)
    values: list[list[TokenColumns | None]] = field(default_factory=list)
    """Values of the tokens of each answer of each group."""
    num_shown: int = 0
    num_answers: int = 0

    def add(self, lines: list[dict[str, Any]], *, limit: int) -> None:
        """Keep a group while there is room; groups stay whole, and the first always has room."""
        self.num_answers += len(lines)
        if not self.groups or self.num_shown + len(lines) <= limit:
            self.values.append([read_values(line) for line in lines])
            self.groups.append({
                "id": page_text(lines[0].get("prompt_id")),
                "prompt": page_text(lines[0].get("prompt")),
                "answers": [answer(line) for line in lines],
            })  # fmt: skip
            self.num_shown += len(lines)


@dataclass
class PageAnswers:
    """Everything read of one or several runs."""

    shown: list[Shown] = field(default_factory=list)
    lengths: list[AnswerLengths] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_page_answers(runs: Mapping[str, Path]) -> PageAnswers:
    """Answers of runs by name, with the name in front where there are several.

    Each benchmark has an equal share of MAX_ANSWERS; rollouts have their share of what is left.
    """
    read = PageAnswers()
    prefix = {name: f"{name} " if len(runs) > 1 else "" for name in runs}
    files = {name: benchmark_files(folder) for name, folder in runs.items()}
    limit = MAX_ANSWERS // (sum(map(len, files.values())) + len(runs))
    for name, by_key in files.items():
        for (command, benchmark), of_benchmark in by_key.items():
            label = f"{prefix[name]}{command} {benchmark}"
            read_benchmark(read, label, of_benchmark, limit=limit)
    limit = (MAX_ANSWERS - sum(shown.num_shown for shown in read.shown)) // len(runs)
    for name, folder in runs.items():
        phases = sorted((folder / "rollouts").glob("*.jsonl"))
        read_rollouts(read, f"{prefix[name]}rollouts", phases, limit=limit)
    shorten_responses(read)
    drop_values(read)
    return read


def benchmark_files(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Files of each command and benchmark."""
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for command, where in FOLDERS.items():
        for file in sorted((folder / where).glob("*.jsonl")):
            if match := FILE.fullmatch(file.name):
                found[command, match["benchmark"]].append(file)
    return found


def read_benchmark(read: PageAnswers, label: str, files: list[Path], *, limit: int) -> None:
    """All lengths, and as many answers as there is room for."""
    shown, lengths = Shown(label), AnswerLengths(label)
    for file in files:
        for lines in groups(file):
            lengths.add(lines)
            shown.add(lines, limit=limit)
    read.lengths.append(lengths)
    read.shown.append(shown)
    if shown.num_shown < shown.num_answers:
        read.notes.append(f"{label}: the first {shown.num_shown} of {shown.num_answers} answers.")


def read_rollouts(read: PageAnswers, label: str, files: list[Path], *, limit: int) -> None:
    """The newest phases first, as many as there is room for; lengths of the last alone."""
    room = limit
    for number, file in enumerate(reversed(files)):
        if room <= 0:
            read.notes.append(f"{label}: the last {number} of {len(files)} phases.")
            return
        phase = file.stem.removeprefix("phase-").lstrip("0") or "0"
        shown, lengths = Shown(f"{label}, phase {phase}"), AnswerLengths(f"{label}, phase {phase}")
        for lines in groups(file):
            lengths.add(lines)
            shown.add(lines, limit=room)
        room -= shown.num_shown
        read.shown.append(shown)
        if number == 0:
            read.lengths.append(lengths)
        if shown.num_shown < shown.num_answers:
            read.notes.append(
                f"{shown.label}: the first {shown.num_shown} of {shown.num_answers} answers."
            )


def groups(file: Path) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring lines of one prompt."""
    lines = (line for line in iterate_lines(file) if isinstance(line, dict))
    for _, of_prompt in groupby(lines, lambda line: line.get("prompt_id")):
        yield list(of_prompt)


def answer(line: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of one line."""
    both = {name: line.get(name) for name in OF_LINE}
    both |= {name: verdict(line).get(name) for name in OF_VERDICT}
    if isinstance(line.get("hint"), dict):
        both["hint"] = line["hint"].get("share")
    return {name: plain(value) for name, value in both.items()} | {
        "response": page_text(line.get("response"))
    }


def plain(value: object) -> str | float | None:
    """A value that JSON and the page can hold, whatever stands in the file."""
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    return None if value is None else page_text(value)


def verdict(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """The verdict of a line; an empty one if there is none."""
    found = line.get("verdict")
    return found if isinstance(found, dict) else {}


def page_text(value: object) -> str:
    """As the page shows it."""
    return "" if value is None else visible(str(value))


def shorten_responses(read: PageAnswers) -> None:
    """Take the middle out of long answers, so that all together keep to MAX_CHARACTERS."""
    longest = MAX_CHARACTERS // max(1, sum(shown.num_shown for shown in read.shown))
    for shown in read.shown:
        for group, values in zip(shown.groups, shown.values, strict=True):
            for number, one in enumerate(group["answers"]):
                response = one["response"]
                if len(response) <= longest:
                    continue
                values[number] = None
                half = longest // 2
                left_out = (
                    f"[... {len(response) - longest} characters of the file are left out ...]"
                )
                one["response"] = f"{response[:half]}\n{left_out}\n{response[-half:]}"


def drop_values(read: PageAnswers) -> None:
    """Keep the values of MAX_TOKENS tokens, of the sets that come first."""
    room = MAX_TOKENS
    for shown in read.shown:
        needed = sum(len(one["n"]) for group in shown.values for one in group if one)
        if needed > room:
            shown.values = [[None] * len(group) for group in shown.values]
            read.notes.append(f"{shown.label}: without the values of its {needed} tokens.")
        else:
            room -= needed
