"""Rows of one file: JSON Lines, a JSON array, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from luffy_pl.data.csv_rows import csv_rows
from luffy_pl.data.json_rows import json_lines
from luffy_pl.data.text_lines import COMPRESSED, OnBroken, Rows, ending
from luffy_pl.errors import DataError, first_line

ROWS_PER_BATCH = 256
NOT_READ = {
    (".xlsx", ".xls", ".ods", ".numbers"): "save the sheet as CSV in UTF-8",
    (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz"): "write its rows as JSON Lines or Parquet: "
    "a pickle can run code, and none is read",
    (".arrow", ".feather", ".arrows"): "give the folder that save_to_disk wrote, or write the "
    "table as Parquet",
    (".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".lz4"): "unpack it; a single file may "
    "be compressed with gzip (.gz) or zstd (.zst)",
}
"""What people have and is not read, and the right form of it."""


def check_format(file: Path, path: str) -> None:
    """Refuse a file that has another format, with the right form of it."""
    own = file.suffix.lower()
    if own in COMPRESSED and ending(file) == ".parquet":
        raise DataError(path, "Parquet is compressed in itself", fix="unpack the file once")
    if ending(file) in FORMATS:
        return
    fixes = [fix for endings, fix in NOT_READ.items() if own in endings]
    raise DataError(
        path,
        "is no format of data that is read",
        value="".join(file.suffixes[-2:]) if own in COMPRESSED else own,
        fix=fixes[0]
        if fixes
        else f"give a file that ends in {', '.join(FORMATS)}, or in one of these and .gz or .zst",
    )


def file_rows(path: str, on_broken: OnBroken = None) -> Rows:
    """Yield (`file:row`, row); what is left out by `on_broken` is counted in the numbers."""
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise DataError(
            path,
            f"cannot be opened ({error.strerror}; working directory {Path.cwd()})",
            fix="correct path, or write the file first",
        ) from None
    yield from FORMATS[ending(Path(path))](path, on_broken)


def _parquet_rows(path: str, on_broken: OnBroken) -> Rows:
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
            f"not Parquet, or cut short ({first_line(error)})",
            fix="download or write the file again",
        ) from None


FORMATS: dict[str, Callable[[str, OnBroken], Rows]] = {
    ".jsonl": json_lines,
    ".json": json_lines,
    ".ndjson": json_lines,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": _parquet_rows,
}
"""What a name ends in, and who reads such a file."""
