"""`luffy-pl completion`: a script that completes commands and settings in bash and zsh.

Written once, it holds all words, so that pressing Tab starts no Python.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from luffy_pl.commands.parser import CommandParser
from luffy_pl.commands.table import COMMANDS, is_run

OF_THE_COMMAND = (
    "config", "print_config", "help", "help-all", "plugin", "allow_import", "debug",
)  # fmt: skip
"""Options that are no settings."""
SCRIPT = """\
# luffy-pl: completion for bash and zsh
if [[ -n ${{ZSH_VERSION-}} ]]; then autoload -U +X bashcompinit && bashcompinit; fi
_luffy_pl() {{
  local word=${{COMP_WORDS[COMP_CWORD]}}
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$word"))
  elif [[ $word == --* && " {of_run} " == *" ${{COMP_WORDS[1]}} "* ]]; then
    COMPREPLY=($(compgen -W "{settings}" -- "$word"))
  fi
}}
# Whatever is neither is a file.
complete -o default -F _luffy_pl luffy-pl
"""


def main(argv: Sequence[str]) -> int:
    """Print the script."""
    parser = CommandParser(
        prog="luffy-pl completion",
        description="Print a completion script: luffy-pl completion > "
        "~/.local/share/bash-completion/completions/luffy-pl, or source it in .zshrc.",
    )
    parser.parse_args(argv)
    from luffy_pl.run.settings_table import setting_names

    sys.stdout.write(script([*OF_THE_COMMAND, *setting_names()]))
    return 0


def script(settings: Iterable[str]) -> str:
    """The script, with the dotted names of all settings of a run."""
    return SCRIPT.format(
        commands=" ".join(COMMANDS),
        of_run=" ".join(filter(is_run, COMMANDS)),
        settings=" ".join(f"--{name}" for name in settings),
    )
