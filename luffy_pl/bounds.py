"""Bounds of the numbers in a configuration."""

from __future__ import annotations

from luffy_pl.errors import ConfigError


def at_least(where: str, value: float | None, bound: float) -> None:
    """Raise a ConfigError naming the field if a given value is below its bound."""
    if value is not None and value < bound:
        raise ConfigError(where, f"must be at least {bound}", value=value, fix="raise it, or null")
