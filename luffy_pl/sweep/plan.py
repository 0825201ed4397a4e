"""From a grid to its cells: names, command lines, fingerprints."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from luffy_pl.bundled import resolve
from luffy_pl.errors import ConfigError
from luffy_pl.registry import PLUGIN, plugins
from luffy_pl.sweep.grid import Grid, Setting
from luffy_pl.sweep.values import load_yaml

PROGRAM = (sys.executable, "-m", "luffy_pl.cli")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Args:
        group: name without the seed; the runs of a group differ by their seed alone.
        labels: axis -> label; empty for a cell beside the product.
        arguments: of luffy-pl, from the command to what the sweep's own command line hands on.
        fingerprint: of the arguments and the content of the configuration files and plugins. The
            run directory is left out, so that a sweep may be moved; so are comments and layout.
    """

    name: str
    group: str
    labels: Mapping[str, str]
    seed: int
    run_dir: Path
    arguments: tuple[str, ...]
    fingerprint: str


def make_cells(grid: Grid, allowed: Sequence[str] = ()) -> list[Cell]:
    """The cells of the product, then those beside it; the seeds of a group are neighbours.

    Args:
        allowed: packages that the caller lets the configurations import. Every cell gets them, and
            the plugins that the caller has loaded.
    """
    contents: dict[str, Any] = {}
    cells = [
        make_cell(grid, group, labels, settings, seed, contents, from_the_caller(allowed))
        for group, labels, settings in groups(grid)
        for seed in grid.seeds
    ]
    if not cells:
        raise ConfigError(str(grid.path), "every cell is excluded", fix="correct exclude")
    names: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in names:
            raise ConfigError(str(grid.path), "two cells have one name", value=cell.name,
                              fix="rename a label")  # fmt: skip
        names[cell.name] = cell
    return cells


def from_the_caller(allowed: Sequence[str]) -> tuple[str, ...]:
    """The options of the sweep that each cell gets too."""
    return (
        *(f"{PLUGIN}={plugin.path}" for plugin in plugins()),
        *(f"--allow_import={name}" for name in allowed),
    )


def groups(grid: Grid) -> Iterator[tuple[str, dict[str, str], tuple[Setting, ...]]]:
    """Name, labels and settings of each group."""
    for chosen in product(*grid.axes.values()) if grid.axes else ():
        labels = dict(zip(grid.axes, chosen, strict=True))
        if not any(matches(labels, entry) for entry in grid.exclude):
            settings = tuple(grid.axes[axis][label] for axis, label in labels.items())
            yield "-".join(chosen), labels, settings
    for name, setting in grid.cells.items():
        yield name, {}, (setting,)


def matches(labels: Mapping[str, str], entry: Mapping[str, Sequence[str]]) -> bool:
    """Whether an entry of `exclude` is about these labels."""
    return all(labels[axis] in names for axis, names in entry.items())


def make_cell(
    grid: Grid,
    group: str,
    labels: Mapping[str, str],
    settings: Iterable[Setting],
    seed: int,
    contents: dict[str, Any],
    handed_on: Sequence[str],
) -> Cell:
    """One cell; `contents` keeps configuration files that were read for another."""
    configs, overrides = list(grid.base), dict[str, Any]()
    for setting in settings:
        configs += setting.configs
        for key, value in setting.overrides.items():
            if key in overrides:
                raise ConfigError(f"{grid.path}: {group}", "two labels set one key", value=key,
                                  fix="vary it on one axis")  # fmt: skip
            overrides[key] = value
    for path in configs:
        if path not in contents:
            contents[path] = load_yaml(Path(resolve(path)), where=str(grid.path))
    name = f"{group}-seed{seed}"
    run_dir = grid.run_dir / name
    arguments = (
        grid.command,
        *(word for path in configs for word in ("--config", path)),
        *(f"--{key}={argument(value)}" for key, value in overrides.items()),
        f"--seed_everything={seed}",
    )
    parts: list[Any] = [arguments, [contents[path] for path in configs]]
    if hashes := [plugin.sha256 for plugin in plugins()]:
        parts.append(hashes)
    identity = json.dumps(parts, sort_keys=True, default=str)
    return Cell(
        name=name,
        group=group,
        labels=labels,
        seed=seed,
        run_dir=run_dir,
        arguments=(*arguments, f"--run_dir={run_dir}", *handed_on),
        fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:16],
    )


def argument(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)
