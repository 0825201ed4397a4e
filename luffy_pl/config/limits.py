"""What a configuration may name: classes of three packages, and no secret of the environment."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import set_parsing_settings
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from luffy_pl.config.guards import check_environment_name
from luffy_pl.errors import ConfigError
from luffy_pl.registry import PLUGIN, take_option

PACKAGES = ("lightning", "luffy_pl", "torch")
ALLOW = "--allow_import"
RECORD = "--plugins"
"""The setting in which a run writes down which plugins it was given."""
_allowed_before: set[str] = set()


def limit_parser(argv: Sequence[str]) -> list[str]:
    """Set the limits; returns the arguments without `--allow_import`.

    The parser imports a `class_path` before it looks at its type, so the module's code would run
    even where the class is then refused. Only the command line may widen the list: a file that
    could would be no limit.
    """
    rest, allowed = split_allowed(argv)
    if any(argument.partition("=")[0] == RECORD for argument in rest):
        raise ConfigError(
            RECORD, "is written by the run and loads nothing", fix=f"use {PLUGIN} FILE.py"
        )
    # The parser's lists only grow: what an earlier command of this process allowed is taken back.
    set_parsing_settings(
        import_path_denylist=["*", *_allowed_before], import_path_allowlist=[*PACKAGES, *allowed]
    )
    _allowed_before.update(name for name in allowed if name.partition(".")[0] not in PACKAGES)
    OmegaConf.register_resolver("oc.env", _env, replace=True, annotation_validation="off")
    return rest


def split_allowed(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without `--allow_import`, and the packages it names, comma-separated."""
    rest, values = take_option(argv, ALLOW)
    for value in values:
        if not all(part.isidentifier() for name in value.split(",") for part in name.split(".")):
            raise ConfigError(ALLOW, "must name packages", value=value, fix=f"{ALLOW} my_package")
    return rest, [name for value in values for name in value.split(",")]


def _env(key: str, *default: object) -> object:
    check_environment_name(key)
    return oc.env(key, *default)
