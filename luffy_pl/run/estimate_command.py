"""`luffy-pl estimate`: memory and time of a configuration, before anything is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError

DEVICES = ("a100-80g", "h100-80g", "cpu")
DESCRIPTION = """Memory and time of `luffy-pl fit` with the same arguments, from the shape of the
model; no weights are loaded. Exit code 1 if it does not fit."""


def main(argv: Sequence[str]) -> int:
    """Estimate and print; 1 if something does not fit."""
    parser = CommandParser(
        prog="luffy-pl estimate",
        description=DESCRIPTION,
        usage="luffy-pl estimate --config FILE [--config FILE] [--dotted.key value] [options]",
    )
    parser.add_argument("--device", choices=DEVICES, help="default: by trainer.accelerator")
    parser.add_argument("--config_json", help="of the model, where model.policy.path is not here")
    parser.add_argument("--response_tokens", type=int, help="mean answer (half of the longest)")
    parser.add_argument("--json", action="store_true", help="one line instead of a table")
    own, of_fit = parser.parse_known_args(argv)
    if own.response_tokens is not None and own.response_tokens < 1:
        raise ConfigError("--response_tokens", "is too small", value=own.response_tokens, fix="1")
    from luffy_pl.estimate.estimate import estimate
    from luffy_pl.run.composition import compose

    found = estimate(compose(["fit", *of_fit]), own)
    if own.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        from luffy_pl.estimate.table import print_estimate

        print_estimate(found)
    return 1 if found["problems"] else 0
