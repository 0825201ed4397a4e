"""`grid.yaml`: what a sweep varies. experiments/README.md shows the format by example."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from luffy_pl.bundled import resolve
from luffy_pl.errors import ConfigError
from luffy_pl.sweep.values import (
    check_label,
    check_names,
    items,
    load_yaml,
    mapping,
    refuse,
    text,
    texts,
)

COMMANDS = ("fit", "validate", "test")
DOTTED_KEY = re.compile(r"[A-Za-z_][\w.]*")
OF_THE_SWEEP = (
    "config",
    "run_dir",
    "seed_everything",
    "resume",
    "overwrite",
    "print_config",
    "help",
)
"""Options that a cell gets from the sweep, or that would make it do something else."""
FROM_THE_CALLER = ("plugin", "plugins", "allow_import")
"""Options that have code of others run: only the sweep's own command line may hold them."""
SHORTHAND = {"key", "values"}

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """What one label adds to the base: configuration files, then dotted overrides."""

    configs: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RayResources:
    """What one cell takes of a Ray cluster."""

    num_cpus: int = 1
    num_gpus: int = 0


@dataclass(frozen=True)
class SlurmResources:
    """What one cell asks of SLURM; `minutes` is its time limit. None leaves SLURM's default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = 60
    cpus: int = 1
    gpus: int = 0
    memory_gb: int | None = None


@dataclass(frozen=True)
class Grid:
    """A grid file, read and checked.

    Args:
        path: the file itself.
        axes: axis -> label -> setting; a cell takes one label of each.
        cells: name -> setting; cells beside the product.
        exclude: label choices by axis; a product that matches all of one entry is left out.
        command: what each cell runs: fit, validate or test.
        metrics: benchmarks of the summary; empty means all.
        minutes_per_cell: for the estimate, until cells have been measured.
    """

    path: Path
    name: str
    run_dir: Path
    base: tuple[str, ...]
    axes: Mapping[str, Mapping[str, Setting]]
    cells: Mapping[str, Setting]
    seeds: tuple[int, ...]
    exclude: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    command: str = "fit"
    metrics: tuple[str, ...] = ()
    minutes_per_cell: float | None = None
    ray: RayResources = RayResources()
    slurm: SlurmResources = SlurmResources()


KEYS = tuple(f.name for f in fields(Grid) if f.name != "path")


def read_grid(path: Path) -> Grid:
    """Read and check a grid file; every mistake is a ConfigError that names the key."""
    content = load_yaml(path, where="grid")
    where = str(path)
    top = mapping(content, where)
    if {"model", "data", "trainer"} & top.keys():
        fix = f"luffy-pl fit --config {where}, or name it under base of a grid"
        raise ConfigError(where, "is the configuration of a run and no grid", fix=fix)
    check_names(top, KEYS, where)
    name = text(top.get("name"), f"{where}: name")
    check_label(name, f"{where}: name")
    axes = {
        str(axis): read_axis(value, f"{where}: axes.{axis}")
        for axis, value in mapping(top.get("axes"), f"{where}: axes").items()
    }
    grid = Grid(
        path=path,
        name=name,
        run_dir=Path(text(top.get("run_dir", f"outputs/sweeps/{name}"), f"{where}: run_dir")),
        base=config_files(top.get("base"), f"{where}: base"),
        axes=axes,
        cells=read_settings(top.get("cells"), f"{where}: cells"),
        seeds=read_seeds(top.get("seeds", [0]), f"{where}: seeds"),
        exclude=read_exclude(top.get("exclude"), axes, f"{where}: exclude"),
        command=text(top.get("command", "fit"), f"{where}: command"),
        metrics=texts(top.get("metrics"), f"{where}: metrics"),
        minutes_per_cell=minutes(top.get("minutes_per_cell"), f"{where}: minutes_per_cell"),
        ray=resources(RayResources, top.get("ray"), f"{where}: ray"),
        slurm=resources(SlurmResources, top.get("slurm"), f"{where}: slurm"),
    )  # fmt: skip
    if not grid.axes and not grid.cells:
        refuse(where, "names no cells", fix="give axes, cells, or both")
    check_names([grid.command], COMMANDS, f"{where}: command")
    return grid


def read_axis(value: Any, where: str) -> dict[str, Setting]:
    """Label to setting; `{key: dotted.key, values: [...]}` is short for one override each."""
    entries = mapping(value, where)
    check_label(where.rsplit("axes.", 1)[-1], where)
    if not entries:
        refuse(where, "has no labels", fix="give at least one, or leave the axis out")
    if set(entries) != SHORTHAND:
        return read_settings(entries, where)
    key = text(entries["key"], f"{where}.key")
    labels = {str(one): {"set": {key: one}} for one in items(entries["values"], f"{where}.values")}
    return read_settings(labels, where)


def read_settings(value: Any, where: str) -> dict[str, Setting]:
    """Label to setting."""
    settings = {}
    for label, entry in mapping(value, where).items():
        here = f"{where}.{label}"
        if isinstance(label, bool):
            refuse(here, "YAML reads this label as true or false", fix="put it in quotes")
        check_label(str(label), here)
        parts = mapping(entry, here)
        check_names(parts, ("configs", "set"), here)
        overrides = mapping(parts.get("set"), f"{here}.set")
        for key in overrides:
            if key in FROM_THE_CALLER:
                refuse(f"{here}.set", "is not for a grid to set: no file may have code run",
                       value=key, fix="add --plugin FILE.py or --allow_import PACKAGE to the "
                       "sweep's own command, if you trust that code")  # fmt: skip
            if not DOTTED_KEY.fullmatch(str(key)) or key in OF_THE_SWEEP:
                refuse(f"{here}.set", "is not for a grid to set", value=key,
                       fix="give a dotted key such as data.rollout.num_phases")  # fmt: skip
        settings[str(label)] = Setting(
            config_files(parts.get("configs"), f"{here}.configs"), overrides
        )
    return settings


def read_exclude(
    value: Any, axes: Mapping[str, Mapping[str, Setting]], where: str
) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Entries of axis to label, or to a list of labels."""
    excluded = []
    for entry in items(value, where):
        chosen = {}
        check_names(mapping(entry, where), tuple(axes), where)
        for axis, labels in entry.items():
            given = labels if isinstance(labels, list) else [labels]
            chosen[str(axis)] = tuple(str(label) for label in given)
            check_names(chosen[axis], tuple(axes[axis]), f"{where}.{axis}")
        if not chosen:
            refuse(where, "an empty entry would leave out everything", fix="name an axis")
        excluded.append(chosen)
    return tuple(excluded)


def read_seeds(value: Any, where: str) -> tuple[int, ...]:
    """Different integers, at least one."""
    seeds = items(value, where)
    if (
        not seeds
        or len(set(seeds)) < len(seeds)
        or not all(type(s) is int and s >= 0 for s in seeds)
    ):
        refuse(where, "must be different integers from 0", value=value, fix="for example [0, 1, 2]")
    return tuple(seeds)


def minutes(value: Any, where: str) -> float | None:
    """A positive number, or None."""
    if value is not None and (type(value) not in (int, float) or value <= 0):
        refuse(where, "must be a positive number", value=value, fix="give minutes")
    return None if value is None else float(value)


def resources(record: type[T], value: Any, where: str) -> T:
    """A record of resources; types are those of its fields."""
    given, types = mapping(value, where), get_type_hints(record)
    check_names(given, tuple(types), where)
    for key, one in given.items():
        if not isinstance(one, types[key]) or isinstance(one, bool):
            refuse(f"{where}.{key}", f"must be {types[key]}", value=one, fix="correct the value")
    return record(**given)


def config_files(value: Any, where: str) -> tuple[str, ...]:
    """Existing files, relative to the current directory, or `bundled:NAME`."""
    names = texts(value, where)
    for name in names:
        if name.startswith("-"):
            refuse(where, "looks like an option", value=name, fix="write ./ before the name")
        try:
            file = Path(resolve(name))
        except ConfigError as error:
            refuse(where, error.what, value=name, fix=error.fix)
        if not file.is_file():
            refuse(where, "no such configuration file in the current directory", value=name,
                   fix="correct it, or start the sweep where the path leads from")  # fmt: skip
    return names
