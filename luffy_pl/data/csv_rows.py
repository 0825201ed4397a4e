"""Rows of a CSV file, as spreadsheets and pandas write it: a header, then a record for each row.

The columns are separated by what separates those of the header: a comma, a semicolon or a tab. All
values are texts; an empty cell is a missing value. A record may span lines, and is named by its
first, as an editor counts them.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from luffy_pl.data.text_lines import TO_UTF8, OnBroken, Rows, ending, read_lines_of
from luffy_pl.errors import DataError

MAX_CELL_CHARACTERS = 1 << 30
QUOTES = 'put a text that holds separators, quotes or line ends into "..." and double its quotes'


def csv_rows(path: str, on_broken: OnBroken) -> Rows:
    """Yield (`file:line`, row); of a file named .tsv the separator is always a tab."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    is_tsv = ending(Path(path)) == ".tsv"
    texts = _decoded(read_lines_of(path), path)
    first = next(texts, "")
    separator = "\t" if is_tsv else max(",;\t", key=first.count)
    reader = csv.reader(chain([first], texts), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            record = next(reader, None)
            if record is None:
                return
            if not record:
                continue
            if header is None:
                header = _header(record, where)
                continue
            row = _row(record, header, where)
        except csv.Error as error:
            broken = DataError(where, f"invalid CSV: {error}", fix=QUOTES)
        except DataError as error:
            if header is None:
                raise
            broken = error
        else:
            yield where, row
            continue
        if on_broken is None or header is None:
            raise broken
        on_broken(broken)


def _decoded(lines: Iterator[bytes], path: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}",
                f"not UTF-8 at byte {error.start + 1} of the line",
                value=line[error.start : error.start + 1],
                fix=TO_UTF8,
            ) from None


def _header(names: list[str], where: str) -> list[str]:
    names = [name.strip() for name in names]
    wrong = [name for name, count in Counter(names).items() if count > 1 or not name]
    if wrong:
        what = "the header names a column twice" if wrong[0] else "the header has an empty name"
        raise DataError(where, what, value=wrong[0], fix="give each column a name of its own")
    return names


def _row(record: list[str], header: list[str], where: str) -> dict[str, str | None]:
    if len(record) != len(header):
        raise DataError(
            where,
            f"has {len(record)} cells, and the header has {len(header)}",
            value=record[0][:60],
            fix=QUOTES,
        )
    return {name: cell or None for name, cell in zip(header, record, strict=True)}
