"""Graded answers of an evaluation that were kept on disk, read back as the groups they were.

<run>/validate/answers/<benchmark>-<rank>.jsonl holds a line for each answer, as
`callbacks/samples.py` writes them; the answers to one problem stand together. A process that was
killed leaves a last line that is cut off, or a problem with fewer answers than it was to get: such
a problem is answered again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.errors import StorageError
from luffy_pl.records import Group, Prompt, Response, Verdict
from luffy_pl.run_dir.fields import Fields, is_count, is_number, is_text, or_null
from luffy_pl.run_dir.read import read_lines

UNKNOWN_TOKEN = -1
"""Replaces each token of an answer that was read back, because only their number is kept."""

LONE_SURROGATES = "backslashreplace"
"""Half a surrogate pair, which UTF-8 has no bytes for, is spelled out, and as JSON spells it."""

AnswerLine = Mapping[str, Any]


def is_verdict(value: Any) -> bool:
    """Whether it has the fields of a Verdict, and a gold that is a text."""
    try:
        return is_text(Verdict(**value).gold)
    except TypeError:
        return False


ANSWER = Fields(
    {
        "prompt_id": is_text,
        "prompt": is_text,
        "response": is_text,
        "source": is_text,
        "finish_reason": is_text,
        "tokens": is_count,
        "reward": or_null(is_number),
        "verdict": is_verdict,
    }
)


def answer_files(folder: Path, benchmark: str) -> list[Path]:
    """Files of one benchmark, of whatever ranks; one name may be the beginning of another."""
    return sorted(
        path
        for path in folder.glob("*.jsonl")
        if path.stem.rpartition("-")[0] == benchmark and path.stem.rpartition("-")[2].isdigit()
    )


def complete_problems(path: Path, samples: int) -> dict[str, list[AnswerLine]]:
    """Lines by prompt id, of the problems that have all their `samples` answers."""
    lines: dict[str, list[AnswerLine]] = defaultdict(list)
    for line in read_lines(path, ANSWER):
        lines[line["prompt_id"]].append(line)
    return {name: found for name, found in lines.items() if len(found) == samples}


def drop_incomplete(path: Path, samples: int) -> None:
    """Rewrite the file with nothing but complete problems; whole or not at all."""
    kept = complete_problems(path, samples).values()
    partial = path.with_suffix(".partial")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for of in kept for line in of)
    partial.write_text(text, encoding="utf-8", errors=LONE_SURROGATES)
    partial.replace(path)


def read_kept_answers(
    folder: Path, benchmark: str, *, problems: Iterable[Prompt], samples: int
) -> dict[str, Group]:
    """Groups of the problems that are complete, by prompt id."""
    by_id = {problem.id: problem for problem in problems}
    return {
        name: restored(lines, by_id[name], where=str(path))
        for path in answer_files(folder, benchmark)
        for name, lines in complete_problems(path, samples).items()
        if name in by_id
    }


def restored(lines: Sequence[AnswerLine], prompt: Prompt, *, where: str) -> Group:
    """The group that was written; its answers must have been given to this prompt and gold."""
    expected = (prompt.text, prompt.ground_truth)
    if any((line["prompt"], line["verdict"]["gold"]) != expected for line in lines):
        raise StorageError(
            where,
            "holds answers to another text or gold of this problem",
            value=prompt.id,
            fix="leave --resume out: the data, or the chat template, have changed",
        )
    responses = tuple(
        Response(
            source=line["source"],
            text=line["response"],
            token_ids=(UNKNOWN_TOKEN,) * line["tokens"],
            finish_reason=line["finish_reason"],
            verdict=Verdict(**line["verdict"]),
        )
        for line in lines
    )
    return Group(prompt, responses, tuple(line["reward"] for line in lines))
