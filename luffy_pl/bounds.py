"""Bounds of the numbers in a configuration: declared beside each field, checked in one place.

Every bound is finite or excludes what is not, so NaN and infinity never pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luffy_pl.errors import ConfigError

LARGEST = 1e15
"""The bound of a number that has no bound of its own; integers up to it are exact as floats."""


@dataclass(frozen=True)
class Bound:
    """Where a number may lie: `above` and `below` exclude their end, the other two include it."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float = LARGEST

    def holds(self, value: float) -> bool:
        """Whether the number is finite and inside."""
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and value <= self.at_most
        )

    def __str__(self) -> str:
        low = f"above {self.above:g}" if self.above is not None else ""
        if self.at_least is not None:
            low = f"at least {self.at_least:g}"
        high = f"below {self.below:g}" if self.below is not None else ""
        if not high and self.at_most < LARGEST:
            high = f"at most {self.at_most:g}"
        return " and ".join(filter(None, (low, high))) or "finite"


def bounded(
    default: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float = LARGEST,
) -> Any:
    """A field of a dataclass with a default and bounds, which hold for each number of a tuple."""
    bound = Bound(above=above, at_least=at_least, below=below, at_most=at_most)
    return dataclasses.field(default=default, metadata={"bound": bound})


def check_bounds(section: Any, where: str = "") -> None:
    """Refuse a number outside the bounds of its field, here or in a section inside.

    Args:
        section: a dataclass whose numbers were made by `bounded`.
        where: the dotted path of the section.

    Raises:
        ConfigError: names the field below `where`.
    """
    for field in dataclasses.fields(section):
        name = f"{where}.{field.name}" if where else field.name
        value, bound = getattr(section, field.name), field.metadata.get("bound")
        if bound is not None:
            check_bound(name, value, bound)
        elif dataclasses.is_dataclass(value):
            check_bounds(value, name)


def check_bound(where: str, value: Any, bound: Bound) -> None:
    """Refuse a number, or one of a tuple of numbers, outside the bound; None passes."""
    for number in numbers(value):
        if not bound.holds(number):
            raise ConfigError(where, f"must be {bound}", value=value, fix="correct the value")


def numbers(value: Any) -> Iterator[float]:
    """The numbers of a setting: itself, or those of a sequence; a switch is no number."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
