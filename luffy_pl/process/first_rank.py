"""Which process of a run speaks and locks for all of them, before torch is imported."""

from __future__ import annotations

import os

RANK_NAMES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Where launchers (torchrun, Lightning's own, SLURM) write which process of a run this is."""


def is_first_rank() -> bool:
    """Whether no launcher says otherwise."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_NAMES)
