"""`luffy-pl completion`: a script that completes commands and settings in bash and zsh.

Written once, it holds all words, so that pressing Tab starts no Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from luffy_pl.cli import COMMANDS

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
    parser = argparse.ArgumentParser(
        prog="luffy-pl completion",
        description="Print a completion script: luffy-pl completion > "
        "~/.local/share/bash-completion/completions/luffy-pl, or source it in .zshrc.",
    )
    parser.parse_args(argv)
    from luffy_pl.run.sections import known_keys

    sys.stdout.write(script(["config", "print_config", "help", *known_keys()]))
    return 0


def script(settings: Iterable[str]) -> str:
    """The script, with the dotted names of all settings of a run."""
    return SCRIPT.format(
        commands=" ".join(COMMANDS),
        of_run=" ".join(
            name for name, (module, _) in COMMANDS.items() if module == "luffy_pl.run.command"
        ),
        settings=" ".join(f"--{name}" for name in settings),
    )
