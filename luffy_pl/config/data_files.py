"""Which JSON files hold rows of data: an argument or a setting may name one, as it may a section.

Only a file that is JSON in the strict sense counts, which has neither tags nor aliases.
"""

from __future__ import annotations

import json
from pathlib import Path

PEEK_BYTES = 1_000_000
"""A file of settings is smaller; of a larger one the first row decides."""


def holds_rows(path: Path) -> bool:
    """Whether a JSON file is an array, or one object per line; a single object is a section."""
    with path.open("rb") as file:
        text = file.read(PEEK_BYTES).decode("utf-8-sig", errors="replace")
        is_whole = not file.read(1)
    if not is_whole:
        first, newline, _ = text.lstrip().partition("\n")
        return text.lstrip().startswith("[") or (bool(newline) and _is_object(first))
    if text.lstrip().startswith("["):
        return _parsed(text) is not None
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(map(_is_object, lines))


def _is_object(text: str) -> bool:
    return isinstance(_parsed(text), dict)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
