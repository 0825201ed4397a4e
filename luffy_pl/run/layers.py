"""The layers of a configuration, laid over each other: kinds selected, dead settings dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from luffy_pl.config.effects import as_default, dead_settings
from luffy_pl.config.kinds import SECTIONS, Dropped, flat, select_kinds
from luffy_pl.config.named import lay_named
from luffy_pl.config.order import RECIPE, check_has_base, check_order, recipe_name
from luffy_pl.config.renamed import as_named_now, without_earlier_names
from luffy_pl.config.sources import read_sources
from luffy_pl.config.trainer_checks import check_root
from luffy_pl.errors import ConfigError

PRINT_CONFIG = "--print_config"
PRINT_FLAGS = {"skip_default", "skip_unset"}
MAX_ROUNDS = 6
"""A dropped setting can take the effect of another; no chain in the table is longer."""


@dataclass(frozen=True)
class Layered:
    """A parsed configuration, what later layers took the effect of, and what has another name."""

    config: Any
    dropped: tuple[Dropped, ...]
    renamed: tuple[str, ...] = ()

    def said(self) -> list[str]:
        """A line for each setting that is not used as it was written."""
        dropped = [
            f"{one.key}={one.value} of {one.source} is dropped: it {one.reason}"
            for one in self.dropped
        ]
        return [*self.renamed, *dropped]

    def derived_from(self, leaf: str) -> set[str]:
        """Settings that change because `leaf` does: fields of another kind, and dropped ones."""
        section = leaf.removesuffix(".kind")
        derived = {one.key for one in self.dropped}
        if section != leaf and section in SECTIONS:
            derived |= {key for key in flat(self.config) if key.startswith(f"{section}.")}
        return derived - {leaf}


def layered(
    args: Sequence[str],
    *,
    parse: Callable[[Sequence[str]], Any],
    defaults: Callable[[], dict[str, Any]],
) -> Layered:
    """The configuration that the arguments give.

    Args:
        parse: parses arguments.
        defaults: the value of every setting that nobody sets, by dotted key; asked if needed.

    Raises:
        ConfigError: files stand in an order that loses settings, or a setting has no effect and
            no earlier layer is to blame.
    """
    sources, renamed = as_named_now(read_sources(args))
    usual = cache(defaults)
    check_order(sources)
    check_has_base(args, sources)
    check_root(sources)
    name = recipe_name(sources)
    selected = select_kinds(args, sources)[1]
    dropped: tuple[Dropped, ...] = ()
    # With the add-ons, of which the parser would take the last for the whole name.
    overrides = [] if name is None else [as_argument(RECIPE, name)]
    for _ in range(MAX_ROUNDS):
        written = [*args, *overrides]
        laid, _ = as_named_now(read_sources(written))
        arguments = lay_named(select_kinds(written, laid)[0], laid)
        config = parse(without_earlier_names(arguments) if renamed else arguments)
        dead = dead_settings(flat(config), sources, defaults=usual)
        if not dead:
            break
        dropped += dead
        overrides += [as_argument(one.key, as_default(one.key, usual())) for one in dead]
    return Layered(config, (*selected, *dropped), renamed)


def as_argument(key: str, value: Any) -> str:
    """A setting as an argument; text stands as it is, everything else as JSON."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def split_print_config(args: Sequence[str]) -> tuple[list[str], set[str] | None]:
    """The arguments without `--print_config`, and its flags; None where it is not asked for.

    The parser would print before the ablation and what has no effect are known.
    """
    asked = [argument for argument in args if argument.partition("=")[0] == PRINT_CONFIG]
    if not asked:
        return list(args), None
    flags = set(filter(None, asked[-1].partition("=")[2].split(",")))
    if flags - PRINT_FLAGS:
        raise ConfigError(
            PRINT_CONFIG, "has unknown flags", value=sorted(flags), fix=" or ".join(PRINT_FLAGS)
        )
    return [argument for argument in args if argument not in asked], flags
