"""`luffy-pl verify`: grade a file of answers, or grade saved rollouts again.

A row holds `prediction` and `gold`, or is one that a run wrote under `rollouts/`: `response`, and
the gold in `verdict`. A grader that reads no gold needs none; it gets the row as the columns
of the prompt. Each row is written in its place as a line of JSON, with its new `verdict`, as soon
as its block is graded: memory holds one block (and a JSON array whole), and a call that was cut off
goes on with `--resume`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from luffy_pl.commands.parser import CommandParser
from luffy_pl.data.json_rows import json_lines
from luffy_pl.data.rows import read_rows
from luffy_pl.errors import ConfigError, DataError, StorageError
from luffy_pl.records import Prompt
from luffy_pl.reward.released.text import RELEASED, THINK_END
from luffy_pl.reward.reward import RewardConfig, Verifier, build_verifier

BLOCK = 512
"""Lines that are graded and written at once."""
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
CHECKED_AGAIN = 16
"""Lines of an earlier call that are graded again, to see that it graded like this one."""


@dataclass(frozen=True)
class ResponseLine:
    """One line: what it holds, what is graded, and the verdict it already has (None: none)."""

    row: dict[str, Any]
    text: str
    prompt: Prompt
    known: bool | None


def main(argv: Sequence[str]) -> int:
    """Grade every line of --pairs into --out; print what was found."""
    parser = CommandParser(
        prog="luffy-pl verify", description="Grade answers; the lines keep their order and fields."
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        required=True,
        help="what to grade: JSON Lines, a JSON array, CSV or Parquet, as the name ends (.gz and "
        ".zst too), or a folder of such files; a pipe is JSON Lines",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON Lines: the same rows, with a verdict"
    )
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
    parser.add_argument(
        "--resume", action="store_true", help="keep the lines that --out has, and grade the others"
    )
    args = parser.parse_args(argv)
    config = config_of(args)
    if args.out.exists() and args.pairs.exists() and args.out.samefile(args.pairs):
        raise ConfigError(
            "--out", "is the file of --pairs", value=str(args.out), fix="name another"
        )
    summary = VerdictCounts()
    with build_verifier(config) as verifier:
        if not is_pipe(args.pairs):  # which is read once
            for _ in read_items(args.pairs, reads_gold=verifier.reads_gold):
                pass
        items = read_items(args.pairs, reads_gold=verifier.reads_gold)
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            if args.resume and args.out.exists():
                keep_lines(args.out, items, verifier, summary)
            with args.out.open("a" if args.resume else "w", encoding="ascii") as file:
                grade_lines(items, verifier, file, summary)
        except OSError as error:
            raise StorageError(
                str(args.out), f"cannot be written ({error.strerror})", fix="give another --out"
            ) from None
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    return 0


def config_of(args: argparse.Namespace) -> RewardConfig:
    """The settings of a call; a released grader finds answers by its own rule."""
    if args.grader not in RELEASED:
        forms = args.forms or (("boxed", "hash", "final") if args.grader == "math" else ("boxed",))
        think_end = args.think_end
    else:
        forms, think_end = args.forms or ("boxed",), args.think_end or THINK_END
    return RewardConfig(think_end=think_end, forms=forms, workers=args.workers, grader=args.grader)


def is_pipe(path: Path) -> bool:
    """Whether it is neither a file nor a folder: what a shell writes as `<(command)`."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_items(path: Path, *, reads_gold: bool = True) -> Iterator[ResponseLine]:
    """Every row, one after the other; an error names it."""
    is_bare = is_pipe(path) or (path.is_file() and not path.suffix)
    rows = json_lines(str(path), None) if is_bare else read_rows(str(path))
    return (item_of(row, where=where, reads_gold=reads_gold) for where, row in rows)


def item_of(row: dict[str, Any], *, where: str, reads_gold: bool = True) -> ResponseLine:
    """A pair, or a saved rollout."""
    earlier = row.get("verdict")
    if "response" in row and isinstance(earlier, dict):
        found = {"response": row["response"], "verdict.gold": earlier.get("gold")}
        known = _known(earlier.get("correct"), "verdict.correct", where)
    else:
        found = {name: row.get(name) for name in ("prediction", "gold")}
        known = _known(row.get("equal"), "equal", where)
        if "prediction" in row and row["prediction"] is None:
            found["prediction"] = ""  # all that a table has for an answer without text
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


def _known(value: Any, name: str, where: str) -> bool | None:
    """The verdict that a row brings along; a table may write it as a word or a number."""
    if value is None or isinstance(value, bool):
        return value
    if (word := str(value).strip().lower()) in TRUTH:
        return TRUTH[word]
    raise DataError(
        where, f"{name} is neither true nor false", value=value, fix="write true or false"
    )


def grade_lines(
    items: Iterator[ResponseLine], verifier: Verifier, file: TextIO, summary: VerdictCounts
) -> None:
    """Grade block by block; each is in the file before the next one begins."""
    while block := list(islice(items, BLOCK)):
        verdicts = verifier.grade([(item.text, item.prompt) for item in block])
        for item, verdict in zip(block, verdicts, strict=True):
            found = dataclasses.asdict(verdict)
            file.write(_written(item, found))
            summary.add(item.known, found)
        file.flush()


def _written(item: ResponseLine, verdict: dict[str, Any]) -> str:
    # default: a date, bytes or a decimal of a Parquet table.
    return json.dumps({**item.row, "verdict": verdict}, default=str) + "\n"


def keep_lines(
    out: Path, items: Iterator[ResponseLine], verifier: Verifier, summary: VerdictCounts
) -> None:
    """Take the lines that an earlier call wrote as done; a last one that is torn is cut off.

    Raises:
        DataError: they are not the first lines of --pairs, or were graded in another way.
    """
    whole = 0
    last: list[tuple[ResponseLine, dict[str, Any]]] = []
    with out.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = _row_of(line)
            if row is None:
                break
            item = next(items, None)
            if item is None or _written(item, row["verdict"]).encode() != line:
                raise DataError(
                    f"{out}:{number}", "is no line of --pairs", fix="leave out --resume, or name "
                    "the --pairs and --out of the call that was cut off",
                )  # fmt: skip
            whole += len(line)
            summary.add(item.known, row["verdict"])
            last = [*last[1 - CHECKED_AGAIN :], (item, row["verdict"])]
    _check_same_grader(out, last, verifier)
    with out.open("r+b") as file:
        file.truncate(whole)


def _row_of(line: bytes) -> dict[str, Any] | None:
    """The object of a line that was written to its end."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("verdict"), dict) else None


def _check_same_grader(
    out: Path, lines: Sequence[tuple[ResponseLine, dict[str, Any]]], verifier: Verifier
) -> None:
    verdicts = verifier.grade([(item.text, item.prompt) for item, _ in lines])
    names = ("extracted", "tier", "gold")
    for (_, earlier), verdict in zip(lines, verdicts, strict=True):
        now = dataclasses.asdict(verdict)
        if [earlier.get(name) for name in names] != [now[name] for name in names]:
            raise DataError(
                str(out), "was graded with other settings",
                value=f"{earlier.get('extracted')!r} by {earlier.get('tier')}, now "
                f"{verdict.extracted!r} by {verdict.tier}",
                fix="leave out --resume, or give the settings of the call that was cut off",
            )  # fmt: skip


@dataclass
class VerdictCounts:
    """Counts by status and tier; agreement with the verdicts that the file brought along."""

    statuses: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    right: int = 0

    def add(self, known: bool | None, verdict: dict[str, Any]) -> None:
        """Count a verdict, and whether it is the known one (None: none is known)."""
        is_right = verdict["correct"] is True
        self.right += is_right
        self.statuses[verdict["status"]] += 1
        self.tiers[verdict["tier"]] += 1
        if known is not None:
            self.pairs[is_right, bool(known)] += 1

    def lines(self) -> list[str]:
        """What a person wants to know."""
        number = self.statuses.total()
        lines = [f"{number} answers: {self.right} correct"]
        for name, counts in (("status", self.statuses), ("tier", self.tiers)):
            lines.append(f"{name}: " + ", ".join(f"{n} {v}" for v, n in counts.most_common()))
        if self.pairs:
            false_positives, false_negatives = self.pairs[True, False], self.pairs[False, True]
            agreed = self.pairs.total() - false_positives - false_negatives
            lines.append(
                f"agreement with the file: {agreed} of {self.pairs.total()} "
                f"({false_positives} false positives, {false_negatives} false negatives)"
            )
        return lines
