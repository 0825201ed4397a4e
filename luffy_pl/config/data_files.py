"""Which JSON files hold rows of data: an argument or a setting may name one, as it may a section.

What is wrong with them is for the reader of data to say. A file in which YAML would find a tag or
an alias never counts: it could be meant for the parser of settings.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

PEEK_BYTES = 1_000_000
"""A file of settings is smaller; of a larger one the beginning decides."""
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


def holds_rows(path: Path) -> bool:
    """Whether a JSON file is an array, or begins with a line that is an object of its own."""
    with path.open("rb") as file:
        text = file.read(PEEK_BYTES).decode("utf-8-sig", errors="replace").strip()
        is_whole = not file.read(1)
    if is_whole and set("&*!") & set(STRINGS.sub("", text)):
        return False
    first, _, others = text.partition("\n")
    return text.startswith("[") or (bool(others) and _is_object(first))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
