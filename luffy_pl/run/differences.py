"""What a configuration sets otherwise than another, leaf by leaf, entries of lists included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "absent"


@dataclass(frozen=True)
class LeafDifference:
    """One leaf: its dotted name, and what it is here and was before, as text."""

    name: str
    here: str
    before: str


def different_leaves(before: Mapping[str, Any], here: Mapping[str, Any]) -> list[LeafDifference]:
    """Leaves that are not the same, in the order of `here`; those it lacks come last."""
    old, new = (dict(all_leaves(settings)) for settings in (before, here))
    return [
        LeafDifference(name, *(in_yaml(side.get(name, ABSENT)) for side in (new, old)))
        for name in [*new, *(name for name in old if name not in new)]
        if name not in old or name not in new or old[name] != new[name]
    ]


def all_leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted name; entries of a list are `name[0]`, unless all are plain."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from all_leaves(value, f"{name}.{key}" if name else str(key))
    elif is_list(node) and any(isinstance(one, Mapping) or is_list(one) for one in node):
        for number, value in enumerate(node):
            yield from all_leaves(value, f"{name}[{number}]")
    elif name:
        yield name, node


def is_list(node: Any) -> bool:
    """Whether a value has entries."""
    return isinstance(node, Sequence) and not isinstance(node, str)


def in_yaml(value: Any) -> str:
    """As a configuration has it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
