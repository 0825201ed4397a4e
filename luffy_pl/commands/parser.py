"""The parser of every command but runs: switches take true and false, a mistake is one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from luffy_pl.commands.switches import FALSE, TRUE, with_values
from luffy_pl.errors import ConfigError
from luffy_pl.registry import nearest

OF_ONE = re.compile(r"argument (?P<name>\S+): (?P<text>.*)", re.DOTALL)
WRONG_TYPE = re.compile(r"invalid (?P<type>\w+) value: '(?P<value>.*)'")
WRONG_CHOICE = re.compile(r"invalid choice: '?(?P<value>.*?)'? \(choose from (?P<names>.*)\)")
MISSING = "the following arguments are required: "
UNKNOWN = "unrecognized arguments: "
TYPES = {"int": "a whole number", "float": "a number", "Path": "a path"}


class CommandParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises a ConfigError where that one prints its usage."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, after switches with a value were made plain."""
        return super().parse_known_args(self._plain_switches(args or ()), namespace)

    def error(self, message: str) -> NoReturn:
        """What is wrong, where, and what to write instead."""
        raise self._explained(message)

    def _plain_switches(self, argv: Sequence[str]) -> list[str]:
        """The arguments as argparse takes switches: there, or not there."""
        switches = {
            name
            for action in self._actions
            if isinstance(action, argparse._StoreTrueAction)
            for name in action.option_strings
        }
        found = []
        for argument in with_values(argv, switches):
            name, _, value = argument.partition("=")
            if name not in switches:
                found.append(argument)
            elif value == TRUE:
                found.append(name)
            elif value != FALSE:
                raise ConfigError(name, "is on or off", value=value, fix=f"{name} or {name} false")
        return found

    def _explained(self, message: str) -> ConfigError:
        see = f"see {self.prog} --help"
        if message.startswith(MISSING):
            usage = " ".join(self.format_usage().removeprefix("usage: ").split())
            usage = usage.replace(" [-h]", "")
            return ConfigError(self.prog, f"needs {message.removeprefix(MISSING)}", fix=usage)
        if message.startswith(UNKNOWN):
            return self._unknown(message.removeprefix(UNKNOWN).split()[0])
        if not (one := OF_ONE.match(message)):
            return ConfigError(self.prog, message, fix=see)
        name, text = one["name"].split("/")[-1], one["text"]
        if wrong := WRONG_TYPE.fullmatch(text):
            meant = TYPES.get(wrong["type"], "another value")
            return ConfigError(name, f"must be {meant}", value=wrong["value"], fix=f"write {meant}")
        if wrong := WRONG_CHOICE.fullmatch(text):
            names = [one.strip(" '") for one in wrong["names"].split(",")]
            what = f"must be one of {', '.join(names)}"
            return ConfigError(name, what, value=wrong["value"], fix=nearest(wrong["value"], names))
        if text.startswith("expected"):
            return ConfigError(name, "has no value", fix=f"write it behind {name}, or {see}")
        return ConfigError(name, text, fix=see)

    def _unknown(self, word: str) -> ConfigError:
        """An option that the command does not have, or a word that it has no place for."""
        see = f"see {self.prog} --help"
        if not word.startswith("-"):
            return ConfigError(word, "is one word too many for this command", fix=see)
        name = word.partition("=")[0]
        known = {bare(one): one for one in self._option_string_actions}
        close = get_close_matches(bare(name), known, n=1)
        fix = f"did you mean {known[close[0]]}?" if close else see
        return ConfigError(name, "is no option of this command", fix=fix)


def bare(option: str) -> str:
    """An option without its dashes, of which some write `_` and some `-`."""
    return option.lstrip("-").replace("-", "_")
