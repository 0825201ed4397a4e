"""Sections of the form `{kind: name, fields}`: the kind decides which fields there are.

The parser would refuse an overlay that changes the kind of the file before it, because the new
kind does not know the fields of the old one. So the kind is selected here, before anything is
parsed, from all sources together. Fields that earlier files gave to another kind are dropped, and a
line says so.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import register_type

from luffy_pl.config.messages import explain
from luffy_pl.config.sources import SettingSource, leaves
from luffy_pl.errors import ConfigError
from luffy_pl.experience.routing import Router
from luffy_pl.objective.advantage import Advantage
from luffy_pl.objective.gate import Gate
from luffy_pl.objective.shaping import Shaping
from luffy_pl.policy.frozen import FrozenConfig
from luffy_pl.registry import find, known, name_of, nearest


@dataclass(frozen=True)
class Section:
    """A section with a kind: the registry it chooses from, and the kind that it has by default."""

    kind: str
    default: str
    is_optional: bool = False


SECTIONS = {
    "model.objective.on_policy.shaping": Section("shaping", "identity"),
    "model.objective.on_policy.gate": Section("gate", "clip", is_optional=True),
    "model.objective.off_policy.shaping": Section("shaping", "p_div_p"),
    "data.advantage": Section("advantage", "group"),
    "data.rollout.routing": Section("router", "solve_count", is_optional=True),
}
BASES: dict[type, str] = {
    Shaping: "shaping",
    Gate: "gate",
    Advantage: "advantage",
    Router: "router",
}
EARLIER_SHAPING = {"kind", "gamma", "ceiling", "exponent", "weight"}
"""What versions before kinds had fields of their own wrote of every shaping into config.yaml."""


@dataclass(frozen=True)
class Dropped:
    """A setting without effect that an earlier source holds, and why it has none."""

    key: str
    value: Any
    source: str
    reason: str


def select_kinds(
    argv: Sequence[str], sources: Sequence[SettingSource]
) -> tuple[list[str], tuple[Dropped, ...]]:
    """The arguments with each section of a kind written out once, at their end, and what it drops.

    Raises:
        ConfigError: a kind is unknown, or a field is not one of it and is set with it or later.
    """
    found, dropped = list(argv), []
    for path, section in SECTIONS.items():
        given = [
            (number, source.name, of_section(source, path)) for number, source in enumerate(sources)
        ]
        given = [one for one in given if one[2] is not None]
        if not given:
            continue
        found = without(found, path)
        value, gone = merged(path, section, given)
        dropped += gone
        found.append(f"--{path}={'null' if value is None else json.dumps(value)}")
    return found, tuple(dropped)


def of_section(source: SettingSource, path: str) -> Any:
    """What a source says of a section: its fields; "null" to switch it off; None if nothing."""
    if path in source.values:
        whole = source.values[path]
        return "null" if whole is None else whole or {}
    inner = {
        name.removeprefix(f"{path}."): value
        for name, value in source.values.items()
        if name.startswith(f"{path}.")
    }
    if not inner and any(source.values.get(above, "") is None for above in parents(path)):
        return "null"
    return inner or None


def parents(path: str) -> Iterator[str]:
    """The sections above a dotted path, the nearest first."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def merged(
    path: str, section: Section, given: Sequence[tuple[int, str, Any]]
) -> tuple[dict[str, Any] | None, list[Dropped]]:
    """The fields of a section after all sources, and those dropped since their kind is gone."""
    kind, is_on = section.default, not section.is_optional
    fields: dict[str, tuple[Any, str]] = {}
    dropped: list[Dropped] = []
    for _, name, values in given:
        if values == "null":
            fields, is_on, kind = {}, False, section.default
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(
                path, "must be a section", value=values, fix=f"write {{kind: {section.default}}}"
            )
        is_on = True
        new_kind = values.get("kind", kind)
        allowed = fields_of(section.kind, new_kind, where=f"{path}.kind")
        values = as_written_now(section.kind, values)
        for field in set(values) - {"kind", *allowed}:
            raise unknown_field(path, section, new_kind, field)
        for field in [field for field in fields if field not in allowed]:
            value, source = fields.pop(field)
            reason = f"is no field of kind {new_kind}, which {name} selects"
            dropped.append(Dropped(f"{path}.{field}", value, source, reason))
        kind = new_kind
        fields |= {key: (value, name) for key, value in values.items() if key != "kind"}
    if not is_on:
        return None, dropped
    plain = {key: value for key, (value, _) in fields.items()}
    make(find(section.kind, kind, where=path), plain, path)
    return {"kind": kind, **plain}, dropped


def as_written_now(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a section, without those that an earlier version wrote of all other kinds."""
    if kind != "shaping" or set(values) != EARLIER_SHAPING:
        return dict(values)
    allowed = fields_of(kind, values["kind"], where="kind")
    return {key: value for key, value in values.items() if key in {"kind", *allowed}}


def unknown_field(path: str, section: Section, kind: str, field: str) -> ConfigError:
    """The error for a field that the kind does not have."""
    of_others = [
        name for name in known(section.kind) if field in fields_of(section.kind, name, where=path)
    ]
    allowed = fields_of(section.kind, kind, where=path)
    fix = nearest(field, allowed) if allowed else "leave it out"
    if of_others:
        fix = f"leave it out, or set {path}.kind: {of_others[0]}"
    what = f"has no effect with kind {kind}" if of_others else "unknown option"
    return ConfigError(f"{path}.{field}", what, fix=fix)


def fields_of(kind: str, name: str, *, where: str) -> tuple[str, ...]:
    """The names of the fields of one kind.

    Raises:
        ConfigError: nothing has that name.
    """
    return tuple(field.name for field in dataclasses.fields(find(kind, name, where=where)))


def without(argv: Sequence[str], path: str) -> list[str]:
    """The arguments but those that set a section, or a field of it."""
    found: list[str] = []
    skips_value = False
    for place, argument in enumerate(argv):
        if skips_value:
            skips_value = False
            continue
        flag, is_pair, _ = argument.partition("=")
        if flag == f"--{path}" or flag.startswith(f"--{path}."):
            following = argv[place + 1] if place + 1 < len(argv) else "--"
            skips_value = not is_pair and not following.startswith("--")
            continue
        found.append(argument)
    return found


def build(base: type, value: Any) -> Any:
    """The object of a section from its fields; what the parser calls for every such value.

    A part that names no kind is kept as it is: `select_kinds` puts the whole section at the end of
    the arguments, where it wins.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a section {{kind: name, fields}}, not {value!r}")
    fields = dict(value)
    if "class_path" in fields:  # how the parser writes the default of a field
        return default_of(base, fields)
    if "kind" not in fields:
        return Part(base, fields)
    fields = as_written_now(BASES[base], fields)
    return make(find(BASES[base], fields.pop("kind"), where="kind"), fields, "section")


def make(cls: type, fields: Mapping[str, Any], path: str) -> Any:
    """The object, its fields checked against their types and bounds.

    Raises:
        ConfigError: names the field below `path`.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "section")
    try:
        return parser.instantiate(parser.parse_object({"section": dict(fields)})).section
    except ArgumentError as error:
        found = explain(str(error), (), known_keys=lambda: [f"section.{key}" for key in fields])
        where = found.where.replace("section", path, 1)
        raise ConfigError(where, found.what, value=found.value, fix=found.fix) from None
    except ConfigError as error:
        raise ConfigError(
            f"{path}.{error.where}", error.what, value=error.value, fix=error.fix
        ) from None


def default_of(base: type, value: Mapping[str, Any]) -> Any:
    """The object of a `class_path` and its `init_args`; its module was imported with the field."""
    module, _, name = str(value["class_path"]).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"must be a section {{kind: name, fields}}, not class {module}.{name}")
    return cls(**(value.get("init_args") or {}))


@dataclass(frozen=True)
class Part:
    """Some fields of a section, in a file that leaves its kind to another."""

    base: type
    fields: Mapping[str, Any]


def as_fields(value: Any) -> dict[str, Any]:
    """A section as it is written in a file."""
    if isinstance(value, Part):
        return dict(value.fields)
    base = next(base for base in BASES if isinstance(value, base))
    return {"kind": name_of(BASES[base], type(value)), **dataclasses.asdict(value)}


def flat(config: Any) -> dict[str, Any]:
    """Every leaf of a composed configuration by its dotted key, fields of sections included."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= leaves(as_written(value), key)
    return found


def as_written(value: Any) -> Any:
    """A value as a file holds it: objects as their fields."""
    if isinstance(value, FrozenConfig):
        return dataclasses.asdict(value)
    if isinstance(value, Part):
        return dict(value.fields)
    if isinstance(value, dict):
        return {name: as_written(inner) for name, inner in value.items()}
    return as_fields(value) if isinstance(value, tuple(BASES)) else value


def register_kinds() -> None:
    """Tell the parser how a section with a kind is read and written."""
    for base in BASES:
        register_type(
            base,
            serializer=as_fields,
            deserializer=lambda value, base=base: build(base, value),
            deserializer_exceptions=(ValueError, ConfigError),
            type_check=lambda value, cls: isinstance(value, cls | Part),
            fail_already_registered=False,
        )
    register_type(
        FrozenConfig,
        serializer=as_written,
        deserializer=part_or_frozen,
        deserializer_exceptions=(ValueError, ConfigError),
        type_check=lambda value, cls: isinstance(value, cls | Part),
        fail_already_registered=False,
    )


def part_or_frozen(value: Any) -> Any:
    """A model of `model.frozen`; kept as it is where a file leaves its weights to another."""
    is_part = isinstance(value, Mapping) and "weights" not in value
    return Part(FrozenConfig, value) if is_part else frozen_of(value)


def frozen_of(value: Any, path: str = "model.frozen") -> FrozenConfig:
    """One of the models of `model.frozen` from its fields."""
    if isinstance(value, FrozenConfig):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(path, "must be a section", value=value, fix="write {weights: copy}")
    known_here = [field.name for field in dataclasses.fields(FrozenConfig)]
    for field in set(value) - set(known_here):
        raise ConfigError(f"{path}.{field}", "unknown option", fix=nearest(field, known_here))
    made: FrozenConfig = make(FrozenConfig, value, path)
    return made
