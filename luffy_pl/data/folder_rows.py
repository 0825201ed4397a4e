"""Rows of a folder: files of one format, or a data set that `datasets` saved."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.data.file_rows import FORMATS
from luffy_pl.data.text_lines import Rows, ending
from luffy_pl.errors import ConfigError, DataError, first_line

OF_DATASET, OF_DATASET_DICT = "state.json", "dataset_dict.json"
"""What `save_to_disk` writes beside its tables."""
BESIDE = {"data_report.json", "dataset_info.json", "dataset_infos.json", "check.json"}
"""Files that lie beside data and hold none."""
SPLITS = {"training": "train", "testing": "test", "val": "validation", "valid": "validation",
          "dev": "validation"}  # fmt: skip
SPLIT = re.compile(
    r"(?<![a-z])(train|training|test|testing|eval|validation|valid|val|dev)(?![a-z])", re.IGNORECASE
)
SHARD = re.compile(r"(?P<split>[\w.-]+?)-\d{5}-of-\d{5}")


def choose_split(names: Sequence[str], split: str | None, usual: str, path: str) -> str:
    """The split that was asked for; else the only one; else the usual one."""
    if split is not None:
        if split not in names:
            raise ConfigError(
                path, "has no such split", value=split, fix=f"use one of {', '.join(names)}"
            )
        return split
    if len(names) == 1:
        return names[0]
    if usual in names:
        return usual
    raise ConfigError(
        path,
        f"has several splits, and none is called {usual}",
        value=", ".join(names),
        fix=f"name one, for example split={names[0]}",
    )


def chosen_files(folder: Path, split: str | None, usual: str) -> list[Path]:
    """The files of one split, in the order of their names.

    A file belongs to the split that its name or its folder says (train, test, validation,
    `NAME-00000-of-00002`); where no file says one, they are all one data set.
    """
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if ending(file) in FORMATS and file.is_file() and _counts(file.relative_to(folder))
    ]
    if not files:
        found = sorted(one.name for one in folder.iterdir())[:5]
        raise DataError(
            str(folder),
            "holds no file of data",
            value=", ".join(found) or "an empty folder",
            fix=f"give files that end in {', '.join(FORMATS)} (or these and .gz, .zst), or a "
            "folder of save_to_disk",
        )
    endings = sorted({ending(file) for file in files})
    if len(endings) > 1:
        raise ConfigError(
            str(folder),
            "holds data in several formats, which may be the same rows twice",
            value=", ".join(endings),
            fix=f"give one file, for example {files[0]}",
        )
    by_split = defaultdict(list)
    for file in files:
        by_split[split_of(file.relative_to(folder))].append(file)
    if None not in by_split:
        names = [name for name in by_split if name is not None]
        return by_split[choose_split(names, split, usual, str(folder))]
    if len(by_split) > 1:
        raise ConfigError(
            str(folder),
            "some files say a split in their name, and others none",
            value=by_split[None][0].name,
            fix=f"name it like train-1{''.join(by_split[None][0].suffixes)}, or give one file",
        )
    if split is not None:
        raise ConfigError(
            str(folder), "has no splits: no file says one", value=split, fix="remove split"
        )
    return files


def split_of(file: Path) -> str | None:
    """The split that a file's name says, or that of the nearest folder; None: no split."""
    for part in reversed(file.parts):
        name = Path(part).name.partition(".")[0]
        if shard := SHARD.fullmatch(name):
            name = shard["split"]
            if not SPLIT.search(name):
                return name
        if said := SPLIT.findall(name):
            word = said[-1].lower()
            return SPLITS.get(word, word)
    return None


def _counts(file: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.parts)
    return not hidden and file.name not in BESIDE


def has_configurations(folder: Path) -> bool:
    """Whether its card says which files are which data set, as those of the hub may."""
    card = folder / "README.md"
    if not card.is_file():
        return False
    text = card.read_text(encoding="utf-8", errors="replace")
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    return re.search(r"^configs:", head, re.MULTILINE) is not None


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of a Dataset or of a DatasetDict wrote the folder."""
    return any((folder / name).is_file() for name in (OF_DATASET, OF_DATASET_DICT))


def saved_rows(folder: Path, split: str | None, usual: str) -> Rows:
    """Yield (`folder:row`, row), or (`folder:split:row`, row) of a DatasetDict."""
    import datasets
    import pyarrow as pa

    number, where = 0, str(folder)
    try:
        loaded: Any = datasets.load_from_disk(str(folder))
        if isinstance(loaded, Mapping):
            split = choose_split(list(loaded), split, usual, str(folder))
            loaded, where = loaded[split], f"{folder}:{split}"
        elif split is not None:
            raise ConfigError(
                str(folder), "is one Dataset, which has no splits", value=split, fix="remove split"
            )
        for number, row in enumerate(loaded, start=1):
            yield f"{where}:{number}", row
    except (datasets.exceptions.DatasetsError, pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{where}:{number + 1}" if number else where,
            f"cannot be read as a folder of save_to_disk ({first_line(error)})",
            fix="write it again with save_to_disk",
        ) from None
