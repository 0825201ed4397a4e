"""`luffy-pl verify`: grade a file of answers, or grade saved rollouts again.

A line holds `prediction` and `gold`, or is one that a run wrote under `rollouts/`: `response`, and
the gold in `verdict`. A grader that reads no gold needs none; it gets the line as the columns
of the prompt. Each line is written back in its place, with its new `verdict`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy_pl.errors import DataError, StorageError
from luffy_pl.records import Prompt, Verdict
from luffy_pl.reward.released.text import RELEASED, THINK_END
from luffy_pl.reward.reward import RewardConfig, build_verifier


@dataclass(frozen=True)
class ResponseLine:
    """One line: what it holds, what is graded, and the verdict it already has (None: none)."""

    row: dict[str, Any]
    text: str
    prompt: Prompt
    known: bool | None


def main(argv: Sequence[str]) -> int:
    """Grade every line of --pairs into --out; print what was found."""
    parser = argparse.ArgumentParser(
        prog="luffy-pl verify", description="Grade answers; the lines keep their order and fields."
    )
    parser.add_argument("--pairs", type=Path, required=True, help="JSON Lines to grade")
    parser.add_argument("--out", type=Path, required=True, help="the same lines, with a verdict")
    parser.add_argument("--workers", type=int, default=2, help="processes that run sympy")
    parser.add_argument(
        "--forms",
        type=lambda names: tuple(names.split(",")),
        help="how an answer is marked, in order of preference: boxed,hash,choice,final "
        "(not given: boxed,hash,final)",
    )
    parser.add_argument(
        "--think_end", help="what ends the thinking, such as '</think>'; not given: all text counts"
    )
    parser.add_argument(
        "--grader",
        default="math",
        help="math is ours; luffy_v0 to luffy_v4 and oat are the released ones, which find the "
        "answer by rules of their own; or one of a package or a plugin",
    )
    args = parser.parse_args(argv)
    config = config_of(args)
    with build_verifier(config) as verifier:
        items = read_items(args.pairs, reads_gold=verifier.reads_gold)
        verdicts = verifier.grade([(item.text, item.prompt) for item in items])
    write_verdicts(args.out, items, verdicts)
    sys.stdout.write("\n".join(verdict_summary(items, verdicts)) + "\n")
    return 0


def config_of(args: argparse.Namespace) -> RewardConfig:
    """The settings of a call; a released grader finds answers by its own rule."""
    if args.grader not in RELEASED:
        forms = args.forms or (("boxed", "hash", "final") if args.grader == "math" else ("boxed",))
        think_end = args.think_end
    else:
        forms, think_end = args.forms or ("boxed",), args.think_end or THINK_END
    return RewardConfig(think_end=think_end, forms=forms, workers=args.workers, grader=args.grader)


def read_items(path: Path, *, reads_gold: bool = True) -> list[ResponseLine]:
    """Every line of the file; an error names the line."""
    try:
        # Not splitlines: it also splits at characters that JSON may hold inside a string.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            str(path), f"cannot be read ({error})", fix="give a file of JSON Lines in UTF-8"
        ) from None
    return [
        read_item(line, where=f"{path}:{number}", reads_gold=reads_gold)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def read_item(line: str, *, where: str, reads_gold: bool = True) -> ResponseLine:
    """A pair, or a saved rollout."""
    try:
        row = json.loads(line)
    # RecursionError: brackets nested a thousand deep. ValueError: also numbers of 5000 digits.
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DataError(where, "is no JSON object", value=line[:60], fix="one object per line")
    earlier = row.get("verdict")
    if "response" in row and isinstance(earlier, dict):
        found = {"response": row["response"], "verdict.gold": earlier.get("gold")}
        known = earlier.get("correct")
    else:
        found = {name: row.get(name) for name in ("prediction", "gold")}
        known = row.get("equal")
    gold_name = list(found)[1]
    if found[gold_name] is None and not reads_gold:
        found[gold_name] = ""
    for name, value in found.items():
        if not isinstance(value, str):
            raise DataError(where, f"{name} is not text", value=value, fix="write it as a string")
    text, gold = found.values()
    prompt = Prompt(
        str(row.get("prompt_id", where)), str(row.get("prompt", "")), (), gold, columns=row
    )
    return ResponseLine(row, text, prompt, known)


def write_verdicts(path: Path, items: Sequence[ResponseLine], verdicts: Sequence[Verdict]) -> None:
    """The lines as they were read, each with its verdict."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="ascii") as file:
            for item, verdict in zip(items, verdicts, strict=True):
                row = {**item.row, "verdict": dataclasses.asdict(verdict)}
                file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be written ({error.strerror})", fix="give another --out"
        ) from None


def verdict_summary(items: Sequence[ResponseLine], verdicts: Sequence[Verdict]) -> list[str]:
    """Counts by status and tier; agreement with the verdicts that the file brought along."""
    lines = [f"{len(verdicts)} answers: {sum(v.correct is True for v in verdicts)} correct"]
    for name in ("status", "tier"):
        counts = Counter(getattr(verdict, name) for verdict in verdicts)
        lines.append(f"{name}: " + ", ".join(f"{n} {value}" for value, n in counts.most_common()))
    pairs = [
        (verdict.correct is True, item.known)
        for item, verdict in zip(items, verdicts, strict=True)
        if item.known is not None
    ]
    if pairs:
        false_positives = sum(found and not known for found, known in pairs)
        false_negatives = sum(known and not found for found, known in pairs)
        agreed = len(pairs) - false_positives - false_negatives
        lines.append(
            f"agreement with the file: {agreed} of {len(pairs)} "
            f"({false_positives} false positives, {false_negatives} false negatives)"
        )
    return lines
