"""Faults on purpose: `LUFFY_FAULT="nan_loss@step=3,sync_fail@step=5"` makes a run fail where asked.

For tests of what happens next. Unset, a point costs one look into the environment.
"""

from __future__ import annotations

import os
from difflib import get_close_matches

from luffy_pl.errors import ConfigError

VARIABLE = "LUFFY_FAULT"
POINTS = {
    "rollout_hang": "generation of phase N does not return",
    "rollout_dead": "the engine dies while it generates for phase N",
    "rollout_empty": "every answer of phase N is without a token",
    "rollout_short": "the engine returns one answer too few in phase N",
    "rollout_twice": "the engine returns one request of phase N twice",
    "nan_logprob": "the engine's log-probabilities of phase N are NaN",
    "sync_fail": "handing over the weights of N trained phases breaks half-way",
    "sync_skip": "the weights of N trained phases are not handed over",
    "nan_loss": "the loss of optimizer step N is NaN",
    "oom": "the first forward pass of optimizer step N finds no memory",
    "die_in_save": "the process is killed before it writes file N of a checkpoint",
}
"""What happens, and what the number counts; all from 0."""


def fault(point: str, step: int) -> bool:
    """Whether `LUFFY_FAULT` asks for this fault now. Each entry is used up by happening.

    The name before the number is for the reader: `die_in_save@file=2` is point and 2.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return False
    entries = text.split(",")
    for entry in entries:
        name, _, when = entry.partition("@")
        number = when.rpartition("=")[2]
        if name not in POINTS or not number.isdigit():
            raise _unknown(entry, name)
        if (name, int(number)) == (point, step):
            entries.remove(entry)
            # Children that are started from now on must not repeat it.
            os.environ[VARIABLE] = ",".join(entries)
            return True
    return False


def _unknown(entry: str, name: str) -> ConfigError:
    close = get_close_matches(name, POINTS, n=1, cutoff=0) if name not in POINTS else [name]
    return ConfigError(
        VARIABLE, "is no POINT@step=N", value=entry, fix=f"write {close[0]}@step=N, or unset it"
    )
