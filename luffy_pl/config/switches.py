"""Which settings are on or off, so that each may be written with or without its value."""

from __future__ import annotations

from jsonargparse import ArgumentParser


def switches_of(parser: ArgumentParser) -> set[str]:
    """Every option that is on or off."""
    return {
        name
        for action in parser._actions
        if getattr(action, "_typehint", None) is bool
        for name in action.option_strings
    }
