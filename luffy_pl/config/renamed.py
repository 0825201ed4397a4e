"""Earlier names of settings: read for one more version, with a line that says the name of today."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from luffy_pl.config.sources import SettingSource
from luffy_pl.errors import ConfigError

CLIP, GATE = "model.objective.on_policy.clip", "model.objective.on_policy.gate"


def clip_as_gate(value: Any) -> dict[str, Any] | None:
    """`clip: [low, high]` as a gate."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(
            CLIP, "must be a pair", value=value, fix="write gate: {kind: clip, low: 0.2, high: 0.2}"
        )
    return {"kind": "clip", "low": value[0], "high": value[1]}


RENAMED: dict[str, tuple[str, Callable[[Any], Any]]] = {CLIP: (GATE, clip_as_gate)}
"""By earlier name: the section of today, and its value made of the earlier one."""


def as_named_now(sources: Sequence[SettingSource]) -> tuple[list[SettingSource], tuple[str, ...]]:
    """The sources under the names of today, and a line for each earlier name that one uses.

    Raises:
        ConfigError: a source uses both names.
    """
    found, lines = [], []
    for source in sources:
        values = dict(source.values)
        for old in RENAMED.keys() & values.keys():
            value, (new, change) = values.pop(old), RENAMED[old]
            has_new = any(name == new or name.startswith(f"{new}.") for name in values)
            if has_new and value is None:  # a configuration that was written out names both
                continue
            if has_new:
                raise ConfigError(
                    old, f"is now {new}, and {source.name} sets both", value=value, fix="drop it"
                )
            changed = change(value)
            shown = json.dumps(changed)
            lines.append(f"{old} of {source.name} is now called {new}: {shown}")
            values |= (
                {new: None}
                if changed is None
                else {f"{new}.{name}": inner for name, inner in changed.items()}
            )
        found.append(dataclasses.replace(source, values=values))
    return found, tuple(lines)


def without_earlier_names(argv: Sequence[str]) -> list[str]:
    """The arguments, ending with nulls for earlier names: what they said stands under others."""
    return [*argv, *(f"--{old}=null" for old in RENAMED)]


def leaf_named_now(leaf: str) -> str:
    """The leaf that a setting decides which may have an earlier name."""
    return f"{RENAMED[leaf][0]}.kind" if leaf in RENAMED else leaf
