"""Options of the commands beside fit: the settings of a run, under shorter names.

A command takes whole sections (`--source.schema`, `--reward.forms`) whose fields, help and bounds
are those of a run, and `--config RUN.yaml` takes their values from the configuration of a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from luffy_pl.commands.switches import with_values
from luffy_pl.config.guards import check_command_line, check_config_file
from luffy_pl.config.messages import SEE_ALL, UNKNOWN_OPTION, explain
from luffy_pl.config.switches import switches_of
from luffy_pl.errors import ConfigError, first_line

CONFIG_HELP = "configuration of a run to take values from; may be repeated, later files win"


def sections_parser(prog: str, description: str, sections: Mapping[str, type]) -> ArgumentParser:
    """A parser with the fields of each section."""
    parser = ArgumentParser(
        prog=prog, description=description, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="append", metavar="FILE", help=CONFIG_HELP)
    for name, section in sections.items():
        parser.add_class_arguments(section, name)
    return parser


def parse(
    parser: ArgumentParser, argv: Sequence[str], places: Mapping[str, str], *, needed: Sequence[str]
) -> Any:
    """The options, sections built.

    Args:
        places: where in the configuration of a run the value of an option lies.
        needed: options that may come from either, and must come from one.
    """
    try:
        options_known = set(parser.get_defaults(skip_validation=True).keys())
        found = values_of_run(argv, places, options=options_known)
        if "file" in places:
            parser.link_arguments("file", "source.path")
            found.pop("source.path", None)
        parser.set_defaults(found)
        check_command_line(argv)
        options = parser.parse_args(with_values(argv, switches_of(parser)))
        for name in needed:
            if not options[name]:
                raise ConfigError(
                    name, "is missing", fix="name it, or give --config with that of a run"
                )
        return parser.instantiate(options)
    except ArgumentError as error:
        known = list(parser.get_defaults(skip_validation=True).keys(branches=True))
        mistake = explain(str(error), argv, known_keys=lambda: known)
        if mistake.what == UNKNOWN_OPTION and mistake.fix == SEE_ALL:
            fix = name_here(mistake.where, places) or f"see {parser.prog} --help"
            raise ConfigError(mistake.where, mistake.what, fix=fix) from error
        raise mistake from error


def name_here(setting: str, places: Mapping[str, str]) -> str | None:
    """What a setting of a run is called by a command; None where it has no such option."""
    for name, place in places.items():
        if setting == place:
            return "give the file without an option" if name == "file" else f"write --{name}"
    for name, place in places.items():
        if setting.startswith(f"{place}."):
            return f"write --{name}{setting.removeprefix(place)}"
    return None


def values_of_run(
    argv: Sequence[str], places: Mapping[str, str], *, options: Collection[str]
) -> dict[str, Any]:
    """What the `--config` files say, under the names of the command.

    Args:
        options: names of the command's options. A mapping under such a name is its value; under any
            other name, it is a section of options.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append", default=[])
    run = OmegaConf.merge(*map(read_config, finder.parse_known_args(list(argv))[0].config), {})
    found: dict[str, Any] = {}
    for name, place in places.items():
        value = OmegaConf.select(run, place)
        if isinstance(value, DictConfig):
            value = OmegaConf.to_container(value, resolve=True)
        if value is not None:
            found |= dict(option_values(name, value, options))
    return found


def option_values(name: str, value: Any, options: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The values of the options in a section."""
    if name in options or not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from option_values(f"{name}.{key}", inner, options)


def read_config(file: str) -> Any:
    """One file of settings, as harmless as the configuration of a run has to be."""
    check_config_file(file, is_config=True)
    try:
        return OmegaConf.load(file)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            "config", f"cannot be read ({first_line(error)})", value=file, fix="give a YAML file"
        ) from None
