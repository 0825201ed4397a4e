"""Every setting of a run with its type, default and description, from signatures and docstrings.

`--help-all`, the completion, suggestions for a mistyped name and docs/configuration.md read it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightning as L
from docstring_parser import parse_from_object

from luffy_pl.config.kinds import BASES, as_fields
from luffy_pl.config.trainer_checks import HONOURED
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.registry import find, known
from luffy_pl.run.options import OF_LIGHTNING, OPTIONS
from luffy_pl.run.sections import LINKS
from luffy_pl.run.sections import SECTIONS as CALLBACKS
from luffy_pl.training.module import LuffyModule

LINKED = {target for _, target in LINKS}


@dataclass(frozen=True)
class DescribedSetting:
    """One setting.

    path: dotted name; the names within an entry of a sequence follow `[]`. kind: registry that its
    `kind` is chosen from. is_section: its own settings are those of the section of the same name.
    """

    path: str
    type: str
    default: str
    text: str
    kind: str | None = None
    is_section: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class SettingsSection:
    """A section, what it is, and its settings; `""` holds the options without a section."""

    path: str
    summary: str
    settings: tuple[DescribedSetting, ...]


@cache
def sections() -> tuple[SettingsSection, ...]:
    """All of them; a nested one comes after the one that holds it."""
    options = {**OPTIONS, **OF_LIGHTNING}
    of_the_run = tuple(
        DescribedSetting(name, type_name(one.type), shown(one.default), one.help)
        for name, one in options.items()
    )
    classes = {"model": LuffyModule, "data": LuffyDataModule, **CALLBACKS}
    found = [SettingsSection("", "A run.", of_the_run)]
    found += [one for name, cls in classes.items() for one in nested(name, cls)]
    return (*found, trainer_section())


def setting_names(*, of_entries: bool = False) -> list[str]:
    """The dotted name of every setting that a command line can give.

    Args:
        of_entries: also those within an entry of a sequence, which only a file can give.
    """
    found = []
    for section in sections():
        for setting in section.settings:
            if "[]" in setting.path and not of_entries:
                continue
            found.append(setting.path)
            if setting.kind is not None:
                fields = {one.name for kind in kinds(setting.kind) for one in kind.settings}
                found += [f"{setting.path}.{name}" for name in ("kind", *sorted(fields))]
    return found


def nested(path: str, cls: type, given: Any = None) -> Iterator[SettingsSection]:
    """A class as a section, and one for each record in it.

    Args:
        given: the record that the setting has by default, whose values may not be the class's.
    """
    rows, inside = [], []
    described = descriptions(cls)
    for name, kind, default in fields(cls):
        inner, own = record_in(kind), f"{path}.{name}"
        if own in LINKED:
            continue
        base = next((base for base in BASES if base in (kind, *typing.get_args(kind))), None)
        if base is not None:
            default = as_fields(default) if isinstance(default, base) else default
        elif inner is not None:
            entry = f"{own}[]" if is_sequence(kind) else own
            inside.append((entry, inner, default if isinstance(default, inner) else None))
        rows.append(
            DescribedSetting(
                path=own,
                type=type_name(kind),
                default=shown(getattr(given, name, default)),
                text=described.get(name, ""),
                kind=None if base is None else BASES[base],
                is_section=base is None and inner is not None,
            )
        )
    if rows:
        yield SettingsSection(path, summary(cls), tuple(rows))
    for entry, inner, default in inside:
        yield from nested(entry, inner, default)


def trainer_section() -> SettingsSection:
    """The arguments of Lightning's Trainer that a run honours."""
    params = parse_from_object(L.Trainer.__init__).params
    described = {one.arg_name: first_sentence(one.description or "") for one in params}
    settings = [
        DescribedSetting(f"trainer.{name}", "", shown(one.default), described.get(name, ""))
        for name, one in inspect.signature(L.Trainer).parameters.items()
        if name in HONOURED
    ]
    return SettingsSection("trainer", "Lightning's Trainer.", tuple(settings))


@cache
def kinds(kind: str) -> tuple[SettingsSection, ...]:
    """What each registered name of a kind is and takes."""
    found = []
    for name in known(kind):
        cls = find(kind, name, where=kind)
        described = descriptions(cls)
        settings = tuple(
            DescribedSetting(field, type_name(of), shown(default), described.get(field, ""))
            for field, of, default in fields(cls)
        )
        found.append(SettingsSection(name, summary(cls), settings))
    return tuple(found)


def descriptions(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field, as one line."""
    bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("luffy_pl")]
    return {
        one.arg_name: " ".join((one.description or "").split())
        for base in bases
        for one in parse_from_object(base).params
    }


def fields(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of what a record or a class is made with."""
    if dataclasses.is_dataclass(cls):
        types_of = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            default = field.default
            if not isinstance(field.default_factory, dataclasses._MISSING_TYPE):
                default = field.default_factory()
            yield field.name, types_of[field.name], default
        return
    for name, parameter in inspect.signature(cls, eval_str=True).parameters.items():
        yield name, parameter.annotation, parameter.default


def record_in(kind: Any) -> type | None:
    """The record that a setting is, may be, or is a sequence of."""
    if dataclasses.is_dataclass(kind):
        return typing.cast(type, kind)
    return next(filter(None, map(record_in, typing.get_args(kind))), None)


def is_sequence(kind: Any) -> bool:
    """Whether a setting holds any number of entries."""
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def summary(cls: type) -> str:
    """The docstring up to its arguments."""
    return re.split(r"\n(?:Args|Raises):\n", inspect.getdoc(cls) or "")[0].strip()


def first_sentence(text: str) -> str:
    """The first sentence of a description."""
    return re.split(r"(?<=\.)\s", " ".join(text.split()))[0]


def type_name(kind: Any) -> str:
    """As a person would say it."""
    if kind is type(None) or kind is None:
        return "null"
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, typing.get_args(kind)))
    if arguments := [one for one in typing.get_args(kind) if one is not Ellipsis]:
        return (
            f"{kind.__origin__.__name__} of {', '.join(dict.fromkeys(map(type_name, arguments)))}"
        )
    if dataclasses.is_dataclass(kind) or kind in BASES:
        return "section"
    return getattr(kind, "__name__", str(kind))


def shown(default: Any) -> str:
    """As YAML has it."""
    if default in (inspect.Parameter.empty, dataclasses.MISSING):
        return "required"
    if dataclasses.is_dataclass(default):
        return ""
    if default is None:
        return "null"
    if isinstance(default, dict) and "kind" in default:
        return f"{{{', '.join(f'{name}: {shown(value)}' for name, value in default.items())}}}"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(shown, default))}]"
    return str(default)
