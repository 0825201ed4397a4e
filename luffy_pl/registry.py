"""Names that a configuration may use for code, and where the code behind a name comes from.

A configuration holds a name and never code. A built-in registers itself when its home is imported;
an installed package offers an object under the entry point group `luffy_pl.<kind>`.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from luffy_pl.errors import ConfigError, first_line

HOMES = {
    "shaping": "luffy_pl.objective.shaping",
    "advantage": "luffy_pl.objective.advantage",
    "loss_term": "luffy_pl.objective.terms",
    "router": "luffy_pl.experience.routing",
    "reward": "luffy_pl.reward.terms",
    "grader": "luffy_pl.reward.graders",
    "engine": "luffy_pl.rollout.start",
    "metric": "luffy_pl.evaluation.metrics",
    "logger": "luffy_pl.training.loggers",
}
"""Each kind, and the module that registers its built-ins."""

Registered = TypeVar("Registered")

_registered: dict[str, dict[str, Any]] = defaultdict(dict)


def register(kind: str, name: str) -> Callable[[Registered], Registered]:
    """Give the decorated class or function a name that configurations can use.

    Raises:
        ConfigError: the kind is unknown, or the name belongs to something else.
    """
    if kind not in HOMES:
        raise ConfigError(
            "plugin", "registers an unknown kind", value=kind, fix=nearest(kind, HOMES)
        )

    def keep(found: Registered) -> Registered:
        if _registered[kind].setdefault(name, found) is not found:
            raise ConfigError(
                f"{kind} {name!r}", "is registered more than once", fix="choose another name"
            )
        return found

    return keep


def find(kind: str, name: str, *, where: str) -> Any:
    """The class or function that a configuration calls `name`.

    Args:
        where: the dotted field that holds the name, for errors.

    Raises:
        ConfigError: nothing or more than one thing has that name, or its package fails to import.
    """
    built_in = _built_in(kind)
    if name in built_in:
        return built_in[name]
    points = [point for point in _entry_points(kind) if point.name == name]
    if len(points) > 1:
        packages = ", ".join(point.value for point in points)
        raise ConfigError(
            where, f"{name!r} is registered more than once: {packages}", fix="uninstall one"
        )
    if not points:
        raise ConfigError(where, f"is no {kind}", value=name, fix=nearest(name, known(kind)))
    return _loaded(points[0], where)


def known(kind: str) -> list[str]:
    """Every name of a kind, sorted."""
    return sorted({*_built_in(kind), *(point.name for point in _entry_points(kind))})


def name_of(kind: str, found: Any) -> str:
    """The name of a built-in, or of what an entry point of the kind has loaded."""
    names = [name for name, one in _registered[kind].items() if one is found]
    return (
        names[0]
        if names
        else next(point.name for point in _entry_points(kind) if point.load() is found)
    )


def nearest(name: str, names: Any) -> str:
    """A suggestion for a mistyped name."""
    close = get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"


def _built_in(kind: str) -> dict[str, Any]:
    importlib.import_module(HOMES[kind])
    return _registered[kind]


def _entry_points(kind: str) -> list[EntryPoint]:
    return list(entry_points(group=f"luffy_pl.{kind}"))


def _loaded(point: EntryPoint, where: str) -> Any:
    try:
        return point.load()
    except Exception as error:  # a foreign module fails as it likes
        raise ConfigError(
            where,
            f"{point.value} cannot be imported",
            value=f"{type(error).__name__}: {first_line(error)}",
            fix="correct that package",
        ) from error
