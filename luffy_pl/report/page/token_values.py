"""Values of single tokens, which lines of rollouts hold where a run kept them.

`callbacks/token_values.py` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from luffy_pl.report.page.embed import visible

TokenColumns = dict[str, list[Any]]


def read_values(line: Mapping[str, Any]) -> TokenColumns | None:
    """Values of a line's tokens; None where they are missing or do not fit its response.

    n: how many UTF-16 units of the response, as the page shows it, belong to the token; p and w:
    logarithm of its probability and its weight, as in the file.
    """
    response = line.get("response")
    characters, logprobs, weights = (
        numbers(line.get(name)) for name in ("token_characters", "logprobs", "weights")
    )
    if not isinstance(response, str) or not len(characters) == len(logprobs) == len(weights):
        return None
    whole = all(isinstance(count, int) and count >= 0 for count in characters)
    if not characters or not whole or sum(characters) != len(response):
        return None
    return {"n": shown_lengths(response, characters), "p": logprobs, "w": weights}


def shown_lengths(response: str, characters: Sequence[int]) -> list[int]:
    """UTF-16 units of each piece of a response once it is made visible."""
    if response.isascii() and visible(response) == response:
        return list(characters)
    lengths, start = [], 0
    for count in characters:
        lengths.append(utf16_units(visible(response[start : start + count])))
        start += count
    return lengths


def numbers(values: object) -> list[Any]:
    """A list of numbers and nulls; an empty one in place of anything else."""
    if not isinstance(values, list):
        return []
    are_numbers = (
        value is None or (isinstance(value, int | float) and math.isfinite(value))
        for value in values
    )
    return values if all(are_numbers) else []


def utf16_units(text: str) -> int:
    """Length of a text as a browser counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
