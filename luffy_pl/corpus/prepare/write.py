"""From shards to the files of a data set: rows, complement, report, card."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luffy_pl.corpus.check.lengths import LengthSummary, summarize_lengths
from luffy_pl.corpus.check.repeats import words
from luffy_pl.corpus.prepare.select import SelectionJob

ROWS_PER_GROUP = 1024
NAMED = 5
CARD = "README.md"
REPORT = "data_report.json"


@dataclasses.dataclass
class Written:
    """What became of all rows: `rows` = the sum of `fates`."""

    rows: int = 0
    fates: Counter[str] = dataclasses.field(default_factory=Counter)
    lost_traces: Counter[str] = dataclasses.field(default_factory=Counter)
    traces: int = 0
    first: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    num_tokens: list[int] = dataclasses.field(default_factory=list)


def sorted_out(outcomes: Iterator[dict[str, Any]], written: Written) -> Iterator[tuple[str, Any]]:
    """(file, row) of every row that is used; the first of equal prompts."""
    seen: set[int] = set()
    for outcome in outcomes:
        written.rows += 1
        fate = outcome["reason"]
        if fate in ("kept", "no_trace"):
            key = hash(tuple(words(outcome["text"])))
            fate = "duplicate_prompt" if key in seen else fate
            seen.add(key)
        written.fates[fate] += 1
        written.lost_traces.update(outcome["lost"])
        named = written.first.setdefault(fate, [])
        if fate != "kept" and len(named) < NAMED:
            named.append(f"{outcome['where']} {outcome['what']}".strip())
        if fate == "kept":
            written.num_tokens += outcome["num_tokens"]
            written.traces += len(outcome["row"].get("target_lst") or [1])
            yield "train", outcome["row"]
        elif fate == "no_trace":
            yield "complement", outcome["row"]


def write_files(
    folder: Path, outcomes: Iterator[dict[str, Any]], job: SelectionJob
) -> tuple[Written, dict[str, Path]]:
    """train.parquet, and complement.parquet if it is asked for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(with_list=job.recipe.survivors == "all")
    written, files = Written(), {"train": folder / "train.parquet"}
    if job.recipe.complement:
        files["complement"] = folder / "complement.parquet"
    writers = {name: pq.ParquetWriter(f"{file}.partial", schema) for name, file in files.items()}
    waiting: dict[str, list[Any]] = {name: [] for name in files}
    try:
        for name, row in sorted_out(outcomes, written):
            if name not in writers:
                continue
            waiting[name].append(row)
            if len(waiting[name]) == ROWS_PER_GROUP:
                writers[name].write_table(pa.Table.from_pylist(waiting[name], schema))
                waiting[name] = []
        for name, rows in waiting.items():
            if rows:
                writers[name].write_table(pa.Table.from_pylist(rows, schema))
    finally:
        for writer in writers.values():
            writer.close()
    for file in files.values():
        Path(f"{file}.partial").replace(file)
    return written, files


def arrow_schema(*, with_list: bool) -> Any:
    """The columns of the released LUFFY files; a file without rows has them too."""
    import pyarrow as pa

    message = pa.struct({"role": pa.string(), "content": pa.string()})
    columns = {
        "data_source": pa.string(),
        "prompt": pa.list_(message),
        "target": pa.list_(message),
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct({"split": pa.string(), "index": pa.int64()}),
    }
    return pa.schema(columns | ({"target_lst": pa.list_(pa.string())} if with_list else {}))


def write_data_report(
    folder: Path, written: Written, files: dict[str, Path], job: SelectionJob, path: str
) -> dict[str, Any]:
    """data_report.json and the card; returns the report."""
    settings = dataclasses.asdict(job)
    report = {
        "source": job.source,
        "path": path,
        "rows": written.rows,
        "fates": dict(written.fates.most_common()),
        "first": {fate: named for fate, named in written.first.items() if named},
        "traces": written.traces,
        "lost_traces": dict(written.lost_traces.most_common()),
        "trace_tokens": as_dict(
            summarize_lengths("trace", written.num_tokens, job.recipe.max_trace_tokens)
        ),
        "files": {file.name: sha256(file) for file in files.values()},
        "settings": settings,
    }
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    # A card is Markdown for people and YAML for the hub: nothing in it is HTML to be escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    card = environment.get_template("card.md.jinja").render(report=report, recipe=job.recipe)
    (folder / CARD).write_text(card, encoding="utf-8")
    return report


def as_dict(found: LengthSummary | None) -> dict[str, Any] | None:
    """Without its name."""
    return None if found is None else {k: v for k, v in vars(found).items() if k != "name"}


def sha256(file: Path) -> str:
    """SHA-256 of the content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def corpus_summary(report: dict[str, Any], folder: Path) -> Sequence[str]:
    """For the terminal."""
    lines = [f"{report['rows']} rows of {report['path']}"]
    for fate, count in report["fates"].items():
        named = report["first"].get(fate)
        lines.append(f"  {count} {fate}" + (f", first {named[0]}" if named else ""))
    for reason, count in report["lost_traces"].items():
        lines.append(f"  {count} traces left out: {reason}")
    if (tokens := report["trace_tokens"]) is not None:
        lines.append(
            f"  tokens of a trace: mean {tokens['mean']}, 95% {tokens['p95']}, "
            f"longest {tokens['longest']}"
        )
    return [*lines, f"written: {', '.join(report['files'])} in {folder}"]
