"""The parser of a run's settings."""

from __future__ import annotations

import re
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from luffy_pl.process import moved

CLASS_PATH = re.compile(r"(?<=\bclass_path: )luffy_pl\.[\w.]+")


class SettingsParser(LightningArgumentParser):
    """Writes classes under the names they have now, whatever names the configuration used."""

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The configuration as YAML."""
        if "skip_none" in kwargs:
            # Lightning's name for it, of which jsonargparse warns whoever calls.
            kwargs["skip_unset"] = kwargs.pop("skip_none")
        text = super().dump(*args, **kwargs)
        return CLASS_PATH.sub(lambda found: moved.new_name(found[0]) or found[0], text)
