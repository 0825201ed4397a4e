"""Configurations as a run would compose them, each composed once in a test process."""

import contextlib
import functools
from pathlib import Path

from luffy_pl.config.kinds import flat
from luffy_pl.run.composition import compose

ROOT = Path(__file__).parents[1]


@functools.cache
def composed(*arguments):
    """What `luffy-pl ARGUMENTS` would run with; not to be changed, for others get the same."""
    with contextlib.chdir(ROOT):  # nothing is written
        return compose(arguments)


def fit(*files):
    """A run of these files, the later over the earlier."""
    return composed("fit", *(word for file in files for word in ("--config", file)))


def leaves(config):
    """Dotted keys and values, without the list of files."""
    return {key: value for key, value in flat(config).items() if key != "config"}
