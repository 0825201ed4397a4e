"""`luffy-pl data check` and `luffy-pl data prepare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from luffy_pl.errors import ConfigError

VERBS = {
    "check": ("luffy_pl.corpus.check.command", "find what is wrong with prompts and traces"),
    "prepare": ("luffy_pl.corpus.prepare.command", "make training rows of a public data set"),
}


def main(argv: Sequence[str]) -> int:
    """Hand over to the verb."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<8} {text}" for name, (_, text) in VERBS.items()]
        sys.stdout.write("\n".join(["usage: luffy-pl data VERB [options]", "", *lines, ""]))
        return 0
    if argv[0] not in VERBS:
        raise ConfigError("data", "is no verb", value=argv[0], fix=f"one of {', '.join(VERBS)}")
    return int(import_module(VERBS[argv[0]][0]).main(argv[1:]))
