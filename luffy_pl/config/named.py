"""Sections of the form `{name: {fields}}`, whose names and fields only registered code knows.

The parser would take such a section of a later source as a whole, and silently drop the fields that
the later source does not repeat. So sources are laid over each other here, field by field.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from luffy_pl.config.kinds import as_written, frozen_of, of_section, without
from luffy_pl.config.sources import SettingSource

FROZEN = "model.frozen"
NAMED = ("model.objective.terms", FROZEN)


def lay_named(argv: Sequence[str], sources: Sequence[SettingSource]) -> list[str]:
    """The arguments with each named section written out once, at their end.

    `name: null` takes back what earlier sources say of a name, and null all names.
    """
    found = list(argv)
    for path in NAMED:
        parts = [part for source in sources if (part := of_section(source, path)) is not None]
        if not all(isinstance(part, dict) or part == "null" for part in parts):
            continue  # the parser has the words for it
        section: dict[str, Any] = {}
        for part in parts:
            if part == "null":
                section = {}
                continue
            for key, value in part.items():
                put(section, key.split("."), value)
        if parts:
            named = {name: fields for name, fields in section.items() if fields is not None}
            if path == FROZEN:
                named = {
                    name: as_written(frozen_of(fields, f"{path}.{name}"))
                    for name, fields in named.items()
                }
            found = [*without(found, path), f"--{path}={json.dumps(named)}"]
    return found


def put(section: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value below nested keys; an empty section changes nothing that is there."""
    first, *rest = keys
    inner = section.get(first)
    if rest:
        section[first] = inner if isinstance(inner, dict) else {}
        put(section[first], rest, value)
    elif value != {} or not isinstance(inner, dict):
        section[first] = value
