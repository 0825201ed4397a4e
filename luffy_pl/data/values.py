"""Values of a row, checked: what is wrong with one is a DataError that names file and row."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from luffy_pl.errors import DataError

FIX_ROW = "fix the row, or on_bad_row=skip"
MAX_CHARACTERS = 4_000_000
"""Length of one text: about a million tokens. A longer one is a mistake."""
_AS_JSON = json.JSONEncoder(ensure_ascii=False, default=str)


def is_missing(value: object) -> bool:
    """Whether there is no value."""
    # pandas writes a missing number as NaN.
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_text(value: object, *, field: str, where: str) -> str:
    """The value, which has to be a text that says something."""
    if not isinstance(value, str):
        refuse_row(where, f"{field} is not text", type(value).__name__)
    if not value.strip():
        refuse_row(where, f"{field} is empty", value)
    if len(value) > MAX_CHARACTERS:
        refuse_row(
            where,
            f"{field} has {len(value)} characters, more than the {MAX_CHARACTERS} that any model "
            "reads",
            None,
        )
    check_encodable(value, field, where)
    return value


def check_encodable(value: object, field: str, where: str) -> None:
    """JSON can write half of a surrogate pair; it is no text, and no file takes it."""
    try:
        (value if isinstance(value, str) else _AS_JSON.encode(value)).encode()
    except UnicodeEncodeError:
        refuse_row(where, f"{field} holds half of a surrogate pair, which is not text", value)


def refuse_row(where: str, what: str, value: object) -> NoReturn:
    """Raise what is wrong with a row."""
    shown = value if len(repr(value)) <= 60 else repr(value)[:60]
    raise DataError(where, what, value=shown, fix=FIX_ROW)
