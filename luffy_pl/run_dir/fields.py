"""What lines and files of a run hold, so that a broken one is told before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any], bool]
"""Whether a value is as it should be; a value that is missing is None."""


@dataclass(frozen=True)
class Fields:
    """Fields of a mapping with their checks.

    rest: the check of every other field. present: fields that may be null, but not be missing.
    """

    checks: Mapping[str, Check] = field(default_factory=dict)
    rest: Check = lambda value: True
    present: tuple[str, ...] = ()

    def misfit(self, found: object) -> str | None:
        """What is wrong with what was read; None if nothing is."""
        if not isinstance(found, dict):
            return "is no JSON object"
        for name in [*self.checks, *found]:
            if name not in found and (name in self.present or not self.checks[name](None)):
                return f"has no {name}"
            if not self.checks.get(name, self.rest)(found.get(name)):
                return f"has a broken {name}"
        return None


def is_number(value: Any) -> bool:
    """Also one that is not finite."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """0, 1, 2, ..."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: Any) -> bool:
    """Also an empty one."""
    return isinstance(value, str)


def is_mapping(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


def or_null(check: Check) -> Check:
    """The same, or nothing."""
    return lambda value: value is None or check(value)


def all_values(check: Check) -> Check:
    """A mapping of such values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def is_estimate(value: Any) -> bool:
    """A value with the ends of its interval."""
    ends = ("value", "low", "high")
    return isinstance(value, dict) and all(
        name in value and or_null(is_number)(value[name]) for name in ends
    )


def is_pass_at(value: Any) -> bool:
    """Estimates by k, which JSON has as text."""
    return all_values(is_estimate)(value) and all(k.isdecimal() for k in value)


METRICS_LINE = Fields({"step": is_count}, rest=is_number)
HYPERPARAMETERS_LINE = Fields({"hyperparameters": is_mapping})
EVALUATION_ROW = Fields(
    {
        "phase": is_count,
        "benchmark": is_text,
        "n": is_count,
        "out_of_distribution": lambda value: value is None or isinstance(value, bool),
        "metrics": or_null(all_values(is_estimate)),
        "pass_at": or_null(is_pass_at),
        "avg": or_null(is_number),
        "low": or_null(is_number),
        "high": or_null(is_number),
    },
    rest=or_null(is_number),
    present=("avg", "low", "high"),
)
"""A row of an evaluation; what is not named here is a number."""
CHECKPOINT_MANIFEST = Fields(
    {
        "files": all_values(
            lambda value: (
                is_mapping(value) and is_count(value.get("bytes")) and is_text(value.get("sha256"))
            )
        )
    }
)
