"""The lines of a file of text, compressed or not, and what its readers have in common."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from luffy_pl.errors import DataError, first_line

DataRow = dict[str, Any]
Rows = Iterator[tuple[str, DataRow]]
OnBroken = Callable[[DataError], None] | None

COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
TO_UTF8 = "convert the file, for example with iconv -t UTF-8"


def ending(path: Path) -> str:
    """What the name of a file ends in, without that of its compression."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


def read_lines_of(path: str) -> Iterator[bytes]:
    """The lines of a file, unpacked if it is compressed."""
    compression = COMPRESSED.get(Path(path).suffix.lower())
    if compression is None:
        with Path(path).open("rb") as file:
            yield from file
        return
    import pyarrow as pa

    try:
        with io.BufferedReader(pa.input_stream(path, compression=compression)) as file:
            yield from file
    except OSError as error:
        raise DataError(
            path,
            f"is no {compression} file, or cut short ({first_line(error)})",
            fix="download or pack the file again",
        ) from None
