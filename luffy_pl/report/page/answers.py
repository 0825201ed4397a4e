"""Answers of a run as its page shows them: an index of all, their texts in blocks, their lengths.

<run>/test/answers, <run>/validate/answers, <run>/predictions: by benchmark, shares of ranks and of
batches together. <run>/rollouts: by phase.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from luffy_pl.report.page.blocks import Blocks
from luffy_pl.report.page.embed import visible
from luffy_pl.report.page.token_values import read_values
from luffy_pl.run_dir.read import iterate_lines

FOLDERS = {"test": "test/answers", "validate": "validate/answers", "predict": "predictions"}
# <benchmark>-<rank>.jsonl of an evaluation, <benchmark>-<rank>-<chunk>.jsonl of a prediction.
FILE = re.compile(r"(?P<benchmark>.+?)-\d+(?:-\d{4})?\.jsonl")
# What a page carries at most: more makes it too large to send on or to open.
MAX_ANSWERS = 20_000
MAX_CHARACTERS = 500_000_000
MAX_ANSWER_CHARACTERS = 200_000
MAX_TOKENS = 10_000_000
"""Tokens whose values the page has."""
# What the filters of a page use of a line and of its verdict; texts are in the blocks.
OF_LINE = ("source", "tokens", "finish_reason", "reward", "advantage")
OF_VERDICT = ("correct", "status", "tier")
TEXTS = ("extracted", "gold")


@dataclass
class AnswerLengths:
    """Number of answers by length in tokens; those that could not be graded are in neither."""

    title: str
    correct: Counter[int] = field(default_factory=Counter)
    incorrect: Counter[int] = field(default_factory=Counter)

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Lines of rollouts; an expert's length is not the policy's."""
        for line in lines:
            correct = verdict(line).get("correct")
            tokens = line.get("tokens")
            if line.get("source") != "expert" and isinstance(tokens, int) and correct is not None:
                (self.correct if correct else self.incorrect)[tokens] += 1


@dataclass
class ShownSet:
    """A benchmark of a command, or a phase of rollouts of a run: its groups for the index."""

    label: str
    run: str
    phase: int | None = None
    groups: list[dict[str, Any]] = field(default_factory=list)
    num_shown: int = 0
    num_answers: int = 0

    def content(self) -> dict[str, Any]:
        """As the page embeds it."""
        return {"label": self.label, "run": self.run, "phase": self.phase, "groups": self.groups}


@dataclass
class PageAnswers:
    """Everything read of one or several runs."""

    shown: list[ShownSet] = field(default_factory=list)
    lengths: list[AnswerLengths] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blocks: Blocks = field(default_factory=Blocks)
    num_tokens: int = 0

    def read_set(
        self, shown: ShownSet, files: Iterable[Path], *, limit: int, lengths: bool
    ) -> None:
        """Read all lines; show whole groups while there is room, and the first in any case."""
        of_set, lost_values = AnswerLengths(shown.label), 0
        for lines in (lines for file in files for lines in groups(file)):
            of_set.add(lines)
            shown.num_answers += len(lines)
            has_room = self.blocks.num_characters < MAX_CHARACTERS
            if shown.groups and (shown.num_shown + len(lines) > limit or not has_room):
                continue
            answers = [texts_of(line) for line in lines]
            values = [read_values(line) if is_whole(line) else None for line in lines]
            num_tokens = sum(len(one["n"]) for one in values if one)
            if self.num_tokens + num_tokens > MAX_TOKENS:
                values, lost_values = [None] * len(lines), lost_values + num_tokens
            else:
                self.num_tokens += num_tokens
            at = self.blocks.add(page_text(lines[0].get("prompt")), answers, values)
            shown.groups.append({
                "id": page_text(lines[0].get("prompt_id")), "at": at,
                "answers": [facts_of(line) for line in lines],
            })  # fmt: skip
            shown.num_shown += len(lines)
        self.blocks.close_block()
        self.shown.append(shown)
        if lengths:
            self.lengths.append(of_set)
        if shown.num_shown < shown.num_answers:
            self.notes.append(
                f"{shown.label}: the first {shown.num_shown} of {shown.num_answers} answers."
            )
        if lost_values:
            self.notes.append(f"{shown.label}: {lost_values} tokens without their values.")

    def in_order(self) -> list[ShownSet]:
        """Rollouts, the newest first, then benchmarks; sets without an answer are left out."""
        return sorted((one for one in self.shown if one.groups), key=lambda one: one.phase is None)


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
            shown = ShownSet(f"{prefix[name]}{command} {benchmark}", name)
            read.read_set(shown, of_benchmark, limit=limit, lengths=True)
    limit = (MAX_ANSWERS - sum(shown.num_shown for shown in read.shown)) // len(runs)
    for name, folder in runs.items():
        read_rollouts(read, name, f"{prefix[name]}rollouts", folder, limit=limit)
    return read


def benchmark_files(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Files of each command and benchmark."""
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for command, where in FOLDERS.items():
        for file in sorted((folder / where).glob("*.jsonl")):
            if match := FILE.fullmatch(file.name):
                found[command, match["benchmark"]].append(file)
    return found


def read_rollouts(read: PageAnswers, run: str, label: str, folder: Path, *, limit: int) -> None:
    """The newest phases first, as many as there is room for; lengths of the last alone."""
    files = sorted((folder / "rollouts").glob("*.jsonl"), reverse=True)
    room = limit
    for number, file in enumerate(files):
        if room <= 0 or read.blocks.num_characters >= MAX_CHARACTERS:
            read.notes.append(f"{label}: the last {number} of {len(files)} phases.")
            return
        phase = file.stem.removeprefix("phase-").lstrip("0") or "0"
        shown = ShownSet(f"{label}, phase {phase}", run, int(phase) if phase.isdecimal() else -1)
        read.read_set(shown, [file], limit=room, lengths=number == 0)
        room -= shown.num_shown


def groups(file: Path) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring lines of one prompt."""
    lines = (line for line in iterate_lines(file) if isinstance(line, dict))
    for _, of_prompt in groupby(lines, lambda line: line.get("prompt_id")):
        yield list(of_prompt)


def facts_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """What the index has of one answer."""
    facts = {name: line.get(name) for name in OF_LINE}
    facts |= {name: verdict(line).get(name) for name in OF_VERDICT}
    if isinstance(line.get("hint"), dict):
        facts["hint"] = line["hint"].get("share")
    return {name: plain(value) for name, value in facts.items()}


def texts_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """What the blocks have of one answer; the middle of a very long one is taken out."""
    response = page_text(line.get("response"))
    if len(response) > MAX_ANSWER_CHARACTERS:
        half = MAX_ANSWER_CHARACTERS // 2
        num_left_out = len(response) - 2 * half
        left_out = f"[... {num_left_out} characters of the file are left out ...]"
        response = f"{response[:half]}\n{left_out}\n{response[-half:]}"
    return {"response": response} | {name: plain(verdict(line).get(name)) for name in TEXTS}


def is_whole(line: Mapping[str, Any]) -> bool:
    """Whether the page has all of a response, so that values of tokens fit."""
    response = line.get("response")
    return isinstance(response, str) and len(visible(response)) <= MAX_ANSWER_CHARACTERS


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
