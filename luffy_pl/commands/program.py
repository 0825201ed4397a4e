"""The name under which a person can start this program from where they stand."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from luffy_pl.commands.table import COMMANDS

NAME = "luffy-pl"
# Not with a path already, and not as the head of a message (`luffy-pl fit: ...`).
SCRIPT = re.compile(
    rf"(?<![\w./-])(?:{NAME}(?= (?:{'|'.join(COMMANDS)})\b(?!:))|tensorboard(?= --))"
)
"""Programs at the beginning of a command that a text names."""


def program(name: str = NAME) -> str:
    """The name alone where the shell finds the program of this installation, else a path to it.

    The path is relative if the program lies below the working directory.
    """
    script = Path(sys.argv[0])
    if script.name != NAME:  # started as a module, or from Python
        script = Path(sys.executable).parent / NAME
    script = script.with_name(name)
    if not script.is_file():
        return f"{sys.executable} -m luffy_pl.cli" if name == NAME else name
    found = shutil.which(name)
    if found is not None and script.samefile(found):
        return name
    path, here = script.absolute(), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def runnable(text: str) -> str:
    """The text with the programs of its commands written so that the shell finds them."""
    return SCRIPT.sub(lambda found: program(found[0]), text)
