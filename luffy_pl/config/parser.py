"""The parser of a run's settings."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from jsonargparse import Namespace, _core, _subcommands
from jsonargparse._namespace import add_clash_mark
from lightning.pytorch.cli import LightningArgumentParser

from luffy_pl.process import moved

CLASS_PATH = re.compile(r"(?<=\bclass_path: )luffy_pl\.[\w.]+")


class SettingsParser(LightningArgumentParser):
    """Writes classes under the names they have now, whatever names the configuration used.

    Attributes:
        found: by name, where a setting was found; None while settings are added.
    """

    found: dict[Any, Any] | None = None

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The configuration as YAML."""
        if "skip_none" in kwargs:
            # Lightning's name for it, of which jsonargparse warns whoever calls.
            kwargs["skip_unset"] = kwargs.pop("skip_none")
        text = super().dump(*args, **kwargs)
        return CLASS_PATH.sub(lambda found: moved.new_name(found[0]) or found[0], text)


def remember_what_is_found() -> None:
    """Have a complete parser look for each setting once.

    jsonargparse goes through all of them whenever it meets one: a quarter of a composition.
    """
    look_for = _subcommands.find_action_and_subcommand

    def find(parser: Any, name: str, exclude: Any = None) -> Any:
        found = getattr(parser, "found", None)
        if found is None:
            return look_for(parser, name, exclude=exclude)
        if (name, exclude) not in found:
            found[name, exclude] = look_for(parser, name, exclude=exclude)
        return found[name, exclude]

    for module in (_subcommands, _core):
        setattr(module, look_for.__name__, find)


WALK = Namespace._parse_key
"""jsonargparse's way to a dotted key: name, the section that holds it, name of that section."""


def walk_at_once(section: Namespace, key: str) -> tuple[str, Namespace | None, str]:
    """`WALK`, which splits the key again for each section on it: a quarter of a composition."""
    names = names_in(key) if isinstance(key, str) else None
    if names is None:
        return WALK(section, key)
    sections, name, place = names
    inner: Any = section
    for each in sections:
        if each not in vars(inner):
            return name, None, place
        inner = vars(inner)[each]
        if type(inner) is not Namespace:
            return WALK(section, key)
    return name, inner, place


@lru_cache(maxsize=10_000)
def names_in(key: str) -> tuple[list[str], str, str] | None:
    """Sections, name, and the name of the inmost section; None where a key is none."""
    if " " in key or "" in key.split("."):
        return None
    *sections, name = map(add_clash_mark, key.split("."))
    return sections, name, ".".join(sections)


remember_what_is_found()
setattr(Namespace, WALK.__name__, walk_at_once)
