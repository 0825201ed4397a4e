"""Where each setting of a run was written: configuration files and arguments, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from luffy_pl.bundled import CONFIG_FLAGS

COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class SettingSource:
    """One file, or the arguments between two files.

    name: shown in messages. values: what it sets, by dotted name of each leaf.
    """

    name: str
    values: Mapping[str, Any]


def read_sources(argv: Sequence[str]) -> list[SettingSource]:
    """Every source of the settings, the later ones win.

    A file or value that cannot be read is left out: the parser has better words for it.
    """
    found: list[SettingSource] = []
    given: dict[str, Any] = {}
    for flag, value in options(argv):
        if flag in CONFIG_FLAGS:
            if given:
                found.append(SettingSource(COMMAND_LINE, given))
                given = {}
            found.append(SettingSource(value, dict(leaves(read_file(value)))))
        elif flag.startswith("--"):
            given |= dict(leaves(read_value(value), flag.removeprefix("--")))
    return [*found, SettingSource(COMMAND_LINE, given)] if given else found


def options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each flag with its value, written `--flag value` or `--flag=value`; a bare flag has ''."""
    arguments = list(argv)
    for place, argument in enumerate(arguments):
        if not argument.startswith("-"):
            continue
        flag, is_pair, value = argument.partition("=")
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        yield flag, value if is_pair else ("" if following.startswith("--") else following)


def read_file(path: str) -> Any:
    """The content of a configuration file, references resolved where that is possible."""
    try:
        read = OmegaConf.load(path)
    except (OSError, yaml.YAMLError, OmegaConfBaseException):
        return {}
    try:
        return OmegaConf.to_container(read, resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(read, resolve=False)


def read_value(text: str) -> Any:
    """A value as it stands on a command line: YAML, or the file of a section."""
    if text.endswith((".yaml", ".yml")) and Path(text).is_file():
        return read_file(text)
    try:
        read: Any = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))
    except (yaml.YAMLError, OmegaConfBaseException):
        return text
    return read["value"]


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no section, by its dotted key; a list is one value."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{prefix}.{name}" if prefix else str(name))
    elif prefix:
        yield prefix, node


def last_set(sources: Sequence[SettingSource], key: str) -> int:
    """The number of the last source that sets a key or something below it; -1 if none does."""
    numbers = [
        number
        for number, source in enumerate(sources)
        if any(name == key or name.startswith(f"{key}.") for name in source.values)
    ]
    return max(numbers, default=-1)
