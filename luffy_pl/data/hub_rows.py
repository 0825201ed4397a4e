"""Rows of a data set of the hub, or of a folder that is laid out like one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luffy_pl.data.folder_rows import choose_split
from luffy_pl.data.text_lines import Rows
from luffy_pl.errors import DataError


def hub_rows(path: str, split: str | None, usual: str, *, streaming: bool) -> Rows:
    """Yield (`name:split:row`, row); see `read_rows` for the arguments."""
    import datasets

    name, _, configuration = path.partition(":")
    number = 0
    try:
        rows: Any = datasets.load_dataset(
            name, configuration or None, split=split, streaming=streaming
        )
        if isinstance(rows, Mapping):
            split = choose_split(list(rows), split, usual, path)
            rows = rows[split]
        for number, row in enumerate(rows, start=1):
            yield f"{path}:{split}:{number}", row
    # What it raises for an unknown name, split or configuration, a broken file, and no network.
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise DataError(
            path,
            f"{f'split {split}' if split else 'the data set'} could not be loaded from the hub "
            f"({_said(error)})",
            fix=f"give a configuration, {name}:NAME, as listed"
            if "onfig name is missing" in str(error)
            else "check name, configuration, split and network, or give a local file",
        ) from None
    if number == 0:
        raise DataError(path, f"split {split} has 0 rows", fix="choose another split")


def _said(error: Exception) -> str:
    """The first lines of an error of `datasets`, which lists what there is in its second."""
    return " ".join(str(error).split("\n")[:2])
