"""Rows of JSON Lines, or of one JSON array."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from luffy_pl.data.text_lines import TO_UTF8, DataRow, OnBroken, Rows, ending, read_lines_of
from luffy_pl.errors import DataError, first_line

LISTS = {"data", "rows", "examples", "items", "instances", "questions", "problems", "train", "test"}
"""Names under which a JSON object may hold the rows of a data set."""


def json_lines(path: str, on_broken: OnBroken) -> Rows:
    """Rows of JSON Lines; a file named .json may hold one array instead."""
    # Parsed by us, line by line: the loaders of `datasets` and pandas report neither the file
    # nor the line of a broken row, and that is what whoever has to fix it needs.
    if ending(Path(path)) == ".json":
        if _begins(path, b"["):
            yield from _array_rows(path, on_broken)
            return
        if _begins(path, b"{"):
            _check_no_lone_object(path)
    for number, line in enumerate(read_lines_of(path), start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                row = _json_row(line, where)
            except DataError as error:
                if on_broken is None:
                    raise
                on_broken(error)
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
        reason = first_line(error)
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


def _begins(path: str, mark: bytes) -> bool:
    """Whether the first character of a file is the mark."""
    for line in read_lines_of(path):
        if text := line.removeprefix(codecs.BOM_UTF8).lstrip():
            return text.startswith(mark)
    return False


def _check_no_lone_object(path: str) -> None:
    """Refuse a file that is one object, and whose rows are somewhere inside."""
    text = (line.strip() for line in read_lines_of(path) if line.strip())
    first, second = next(text), next(text, b"")
    if second and first != b"{":
        return
    try:
        whole = json.loads(b"".join(read_lines_of(path)).decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return  # its broken line is named where the lines are read
    lists = [key for key in whole if key in LISTS and isinstance(whole[key], list)]
    if second or lists:
        inner = next(iter(lists or whole), "")
        raise DataError(
            path,
            "is one JSON object, and no rows",
            value=", ".join(whole)[:60],
            fix=f"write its rows as one array, for example with jq .{inner}, or "
            "with to_json(path, orient='records') of pandas",
        )


def _array_rows(path: str, on_broken: OnBroken) -> Rows:
    try:
        rows = json.loads(b"".join(read_lines_of(path)).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            path,
            f"not UTF-8 at byte {error.start + 1}",
            value=error.object[error.start : error.start + 1],
            fix=TO_UTF8,
        ) from None
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = first_line(error)
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
            if on_broken is None:
                raise
            on_broken(error)
        else:
            yield where, checked
