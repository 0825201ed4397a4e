"""Rows of a data set, each with the place it came from: `file:row`, counted from 1."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from luffy_pl.errors import ConfigError, DataError

JSON_LINES = {".jsonl", ".json", ".ndjson"}
PARQUET = {".parquet"}
ROWS_PER_BATCH = 256
TO_UTF8 = "convert the file, for example with iconv -t UTF-8"

DataRow = dict[str, Any]


def read_rows(
    path: str,
    *,
    split: str | None = None,
    streaming: bool = False,
    on_broken_line: Callable[[DataError], None] | None = None,
) -> Iterator[tuple[str, DataRow]]:
    """Yield (`file:row`, row) of a local JSON Lines, JSON or Parquet file, or of a hub data set.

    A file named .json holds lines, or one array of objects.

    Args:
        path: a file; a folder laid out like a hub data set; or a hub name with an optional
            configuration: `openai/gsm8k:main`.
        split: of a hub data set; a file has none.
        streaming: read a hub data set while it arrives, instead of loading all of it first.
        on_broken_line: called for a line that is no JSON object, which is then left out; None
            raises.

    A generator: what is wrong with the file is raised when the first row is asked for.
    """
    suffix = Path(path).suffix.lower()
    is_hub_folder = Path(path).is_dir() and split is not None
    is_file = suffix in JSON_LINES | PARQUET or (Path(path).exists() and not is_hub_folder)
    if is_file and split is not None:
        raise ConfigError(path, "a file has no splits", value=split, fix="remove split")
    if not is_file:
        yield from _hub_rows(path, split, streaming=streaming)
        return

    _check_file(path, suffix)
    num_rows = 0
    is_json = suffix in JSON_LINES
    read_json = _array_rows if suffix == ".json" and _is_array(path) else _json_rows
    for row in read_json(path, on_broken_line) if is_json else _parquet_rows(path):
        num_rows += 1
        yield row
    if num_rows == 0:
        raise DataError(path, "0 rows", fix="give a file with at least one row")


def _check_file(path: str, suffix: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise DataError(
            path,
            f"cannot be opened ({error.strerror}; working directory {Path.cwd()})",
            fix="correct path, or write the file first",
        ) from None
    if suffix not in JSON_LINES | PARQUET:
        raise DataError(
            path,
            "neither JSON Lines nor Parquet",
            value=suffix,
            fix=f"give a file that ends in {', '.join(sorted(JSON_LINES | PARQUET))}",
        )


def _json_rows(
    path: str, on_broken_line: Callable[[DataError], None] | None
) -> Iterator[tuple[str, DataRow]]:
    # Parsed by us, line by line: the loaders of `datasets` and pandas report neither the file
    # nor the line of a broken row, and that is what whoever has to fix it needs.
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path}:{number}"
                try:
                    row = _json_row(line, where)
                except DataError as error:
                    if on_broken_line is None:
                        raise
                    on_broken_line(error)
                else:
                    yield where, row


def _json_row(line: bytes, where: str) -> DataRow:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            where,
            f"not UTF-8 at byte {error.start + 1} of the line",
            value=line[error.start : error.start + 1],
            fix=TO_UTF8,
        ) from None
    # RecursionError: brackets nested a thousand deep. ValueError: also numbers of 5000 digits.
    except (ValueError, RecursionError) as error:
        reason = _first_line(error)
        if isinstance(error, json.JSONDecodeError):  # its own text counts lines from ours
            reason = f"{error.msg} at column {error.colno}"
        raise DataError(
            where,
            f"invalid JSON: {reason}",
            value=line[:60].decode(errors="replace"),
            fix="write one JSON object per line, or one array of objects",
        ) from None
    return _json_object(row, where)


def _json_object(row: Any, where: str) -> DataRow:
    if not isinstance(row, dict):
        raise DataError(
            where,
            f"a JSON {type(row).__name__}, not an object",
            fix="write one JSON object per line, for example with jq -c '.[]'; a file named .json "
            "may be an array of them",
        )
    return row


def _is_array(path: str) -> bool:
    """Whether the first character of a file opens an array."""
    with Path(path).open("rb") as file:
        for line in file:
            if text := line.removeprefix(codecs.BOM_UTF8).lstrip():
                return text.startswith(b"[")
    return False


def _array_rows(
    path: str, on_broken_line: Callable[[DataError], None] | None
) -> Iterator[tuple[str, DataRow]]:
    try:
        rows = json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            path,
            f"not UTF-8 at byte {error.start + 1}",
            value=error.object[error.start : error.start + 1],
            fix=TO_UTF8,
        ) from None
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = _first_line(error)
        raise DataError(
            f"{path}{line}",
            f"invalid JSON: {reason}",
            fix="write one array of objects, or one JSON object per line",
        ) from None
    for number, row in enumerate(rows, start=1):
        where = f"{path}:{number}"
        try:
            checked = _json_object(row, where)
        except DataError as error:
            if on_broken_line is None:
                raise
            on_broken_line(error)
        else:
            yield where, checked


def _parquet_rows(path: str) -> Iterator[tuple[str, DataRow]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(ROWS_PER_BATCH):
            for offset in range(batch.num_rows):
                number += 1
                # Row by row, so that an error below belongs to a row and not to a batch.
                yield f"{path}:{number}", batch.slice(offset, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}",
            "not UTF-8",
            value=error.object[error.start : error.start + 1],
            fix="write the column's text as UTF-8",
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            path,
            f"not Parquet, or cut short ({_first_line(error)})",
            fix="download or write the file again",
        ) from None


def _hub_rows(path: str, split: str | None, *, streaming: bool) -> Iterator[tuple[str, DataRow]]:
    if split is None:
        raise ConfigError(
            path,
            "no such file, and a hub data set needs a split",
            fix="correct path, or give split, for example split=train",
        )
    import datasets

    name, _, configuration = path.partition(":")
    number = 0
    try:
        rows = datasets.load_dataset(name, configuration or None, split=split, streaming=streaming)
        for number, row in enumerate(rows, start=1):
            yield f"{path}:{split}:{number}", row
    # What it raises for an unknown name, split or configuration, a broken file, and no network.
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise DataError(
            path,
            f"split {split} could not be loaded from the hub ({_first_line(error)})",
            fix="check name, configuration, split and network, or give a local file",
        ) from None
    if number == 0:
        raise DataError(path, f"split {split} has 0 rows", fix="choose another split")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
