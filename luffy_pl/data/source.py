"""Where prompts come from, and how a source begins: its columns are understood before it is read.

A run, `data check` and `traces generate` read by this.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.data.columns import SCHEMAS, Columns, Schema, detect_schema, file_row, fill_columns
from luffy_pl.data.expert_traces import TooLong
from luffy_pl.data.guess import GUESSED, NAMES, guess_columns
from luffy_pl.data.rows import Usual, read_rows
from luffy_pl.data.text_lines import DataRow, OnBroken, Rows
from luffy_pl.errors import ConfigError

NUM_LOOKED_AT = 20
"""Rows from whose columns the meaning of each is guessed: the first may lack some."""


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from and which of them are used."""

    path: str
    """A file (JSON Lines, JSON array, CSV, Parquet; also .gz, .zst), a folder of such files or of
    save_to_disk, or a hub data set as `name` or `name:configuration`."""
    split: str | None = None
    """Split of a folder or a hub data set; null takes the only one, else `train` in training and
    `test` in an evaluation. A file has none."""
    schema: Schema = "auto"
    """How columns are named; auto looks at the first row, and guesses by usual names where it
    knows no schema."""
    columns: Columns = field(default_factory=Columns)
    """Columns that differ from the schema's, or from what is guessed."""
    data_source: str | None = None
    """Only rows of this source, as the column `data_source` has it; null takes all."""
    options_seed: int | None = bounded(None, at_least=0)
    """Shuffles the options of each question by this seed; null keeps their order."""
    system_prompt: str | None = None
    """Replaces the system message of every row; null keeps the row's own, "" drops it."""
    chat_template: str | None = None
    """Jinja file that replaces the tokenizer's chat template."""
    hint_template: str | None = None
    """The user's message with a hint, in the tokens of this model: {question} and {hint}; null
    takes that of `data.rollout.guidance`."""
    max_prompt_tokens: int | None = bounded(None, at_least=1, at_most=1e9)
    """A longer prompt is dropped, never cut; null sets no limit."""
    require_trace: bool = False
    """Drop prompts that have no usable expert trace."""
    too_long_trace: TooLong = "drop"
    """What becomes of an expert trace longer than a response may be; none is ever cut."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What becomes of a prompt whose text was read before; counted either way."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used. A broken line of JSON or CSV is always an
    error."""
    max_bad_share: float = bounded(0.1, at_least=0, at_most=1)
    """Share of rows that may be skipped before the whole file is refused."""
    limit: int | None = bounded(None, at_least=1)
    """Rows to read from the start; null reads all."""

    def __post_init__(self) -> None:
        try:
            check_bounds(self)
        except ConfigError as error:  # which of several sources it is, only the path says
            what = f"{error.where} {error.what}"
            raise ConfigError(self.path, what, value=error.value, fix=error.fix) from None


@dataclass(frozen=True)
class Understood:
    """How a source is read.

    `first` is the `file:row` of its first row, `is_file` whether that is in the file which the
    source names; `found` are the columns that the first rows have, of those that are read;
    `guessed` those that nobody named and no schema has, `beyond` those that only rewards, graders
    and metrics may read.
    """

    schema: Schema
    columns: Columns
    first: str
    is_file: bool = True
    found: Mapping[str, str] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line if columns were guessed, or files or a split chosen."""
        if self.is_file and not self.guessed:
            return []
        read = ", ".join(f"{name}={column}" for name, column in self.found.items())
        said = " (guessed; settings: columns)" if self.guessed else ""
        return [f"first row {file_row(self.first)}: {read}{said}"]


def begin_reading(
    source: PromptSource, *, usual_split: Usual = "train", on_broken_line: OnBroken = None
) -> tuple[Understood, Rows]:
    """Understand the columns of a source; return that, and all its rows with their `file:row`.

    Args:
        usual_split: see `read_rows`; `test` is for what is evaluated, which needs no expert traces.
    """
    found = read_rows(
        source.path,
        split=source.split,
        usual_split=usual_split,
        on_broken_line=on_broken_line,
    )
    rows = itertools.islice(found, source.limit)
    head = list(itertools.islice(rows, NUM_LOOKED_AT))
    understood = understand(source, head, with_traces=usual_split == "train")
    return understood, itertools.chain(head, rows)


def understand(
    source: PromptSource, head: Sequence[tuple[str, DataRow]], *, with_traces: bool = True
) -> Understood:
    """What the columns of the first rows mean.

    Args:
        with_traces: guess a column of expert traces too.
    """
    where, first_row = head[0]
    seen: DataRow = {}
    for _, row in head:
        seen |= {name: value for name, value in row.items() if seen.get(name) is None}
    schema = detect_schema(first_row) if source.schema == "auto" else source.schema
    columns = source.columns
    if source.schema == "auto" and schema in GUESSED:
        columns = guess_columns(columns, seen, schema=schema, with_traces=with_traces)
    own = SCHEMAS[schema]
    filled = fill_columns(columns, schema=schema, first_row=seen, where=where)
    paths = {name: getattr(filled, name) for name in NAMES if getattr(filled, name)}
    return Understood(
        schema,
        filled,
        found={n: path for n, path in paths.items() if {path, path.partition(".")[0]} & set(seen)},
        first=where,
        is_file=where.rpartition(":")[0] == source.path,
        guessed=tuple(
            name
            for name in NAMES
            if getattr(columns, name) not in (getattr(source.columns, name), getattr(own, name))
        ),
        beyond=tuple(
            name for name in seen if name not in {path.partition(".")[0] for path in paths.values()}
        ),
    )
