"""The parser of a run's settings."""

from __future__ import annotations

import re
from typing import Any

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

    jsonargparse goes through all of them whenever it meets one: a quarter of a composition. A
    release with other modules only takes that long.
    """
    try:
        from jsonargparse import _core, _subcommands

        look_for = _subcommands.find_action_and_subcommand
    except (ImportError, AttributeError):
        return

    def find(parser: Any, name: str, exclude: Any = None) -> Any:
        found = getattr(parser, "found", None)
        if found is None:
            return look_for(parser, name, exclude=exclude)
        if (name, exclude) not in found:
            found[name, exclude] = look_for(parser, name, exclude=exclude)
        return found[name, exclude]

    for module in (_subcommands, _core):
        setattr(module, look_for.__name__, find)


remember_what_is_found()
