"""Rows of a data set, each with the place it came from: `file:row`, counted from 1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from luffy_pl.data.file_rows import FORMATS, check_format, file_rows
from luffy_pl.data.folder_rows import chosen_files, has_configurations, is_saved, saved_rows
from luffy_pl.data.hub_rows import hub_rows
from luffy_pl.data.text_lines import DataRow, OnBroken, ending
from luffy_pl.errors import ConfigError, DataError

Usual = Literal["train", "test"]
"""The split that is taken of several where none is named: training trains on `train`, an evaluation
asks `test`."""
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")
HUB_ADDRESS = re.compile(r"(?:https?://huggingface\.co/|hf://)datasets/([\w.-]+(?:/[\w.-]+)?).*")


def read_rows(
    path: str,
    *,
    split: str | None = None,
    usual_split: Usual = "train",
    streaming: bool = False,
    on_broken_line: OnBroken = None,
) -> Iterator[tuple[str, DataRow]]:
    """Yield (`file:row`, row) of a file, of a folder, or of a data set of the hub.

    A file is JSON Lines, one JSON array, CSV or Parquet, as its name ends; all but Parquet may be
    compressed (`.gz`, `.zst`). A folder holds such files, or is what `save_to_disk` of `datasets`
    wrote.

    Args:
        path: a file; a folder; or a hub name with an optional configuration: `openai/gsm8k:main`.
        split: of a folder or a hub data set; a file has none. None takes the only one, or
            `usual_split` if there are several.
        streaming: read a hub data set while it arrives, instead of loading all of it first.
        on_broken_line: called for a line that is no row, which is then left out; None raises.

    A generator: what is wrong with the file is raised when the first row is asked for.
    """
    place = Path(path).expanduser()
    is_hub = not place.exists()
    if place.is_dir():
        is_hub = has_configurations(place)
    elif place.exists() and split is not None:
        raise ConfigError(path, "a file has no splits", value=split, fix="remove split")
    elif is_hub:
        _check_may_be_on_hub(path, place)
    else:
        check_format(place, path)
    if is_hub:
        rows = hub_rows(str(Path(path).expanduser()), split, usual_split, streaming=streaming)
    elif is_saved(place):
        rows = saved_rows(place, split, usual_split)
    else:
        files = chosen_files(place, split, usual_split) if place.is_dir() else [place]
        rows = (row for file in files for row in file_rows(str(file), on_broken_line))
    num_rows = 0
    for row in rows:
        num_rows += 1
        yield row
    if num_rows == 0:
        raise DataError(path, "0 rows", fix="give data with at least one row")


def _check_may_be_on_hub(path: str, place: Path) -> None:
    """Refuse what is no name of the hub, or looks like a file that is not there."""
    if ":" in path and Path(path.rpartition(":")[0]).expanduser().is_dir():
        return  # a copy of one, with a configuration
    if found := HUB_ADDRESS.fullmatch(path):
        raise ConfigError(path, "is an address", fix=f"give the name alone: {found[1]}")
    is_file = ending(place) in FORMATS or place.suffix.lower() in (".gz", ".zst")
    folder = place.parent
    is_local = not HUB_NAME.fullmatch(path) or (folder != Path() and folder.is_dir())
    if is_file or is_local:
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        near = get_close_matches(place.name, names, n=1)
        raise DataError(
            path,
            f"cannot be opened (No such file or directory; working directory {Path.cwd()})",
            fix=f"correct path: did you mean {folder / near[0]}?"
            if near
            else "correct path, or write the file first; a data set of the hub is owner/name",
        )
