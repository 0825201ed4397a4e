"""Randomness that is keyed, not carried: each draw is a function of what it is for.

Nothing has to be saved to resume a run, and no draw moves when another one is added.
"""

from __future__ import annotations

import json
import random
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch


def keyed_seed(*key: int | str) -> int:
    """A seed in [0, 2**31) for the draw that `key` names: request, prefix ratio, ..."""
    return int.from_bytes(_digest(key), "big") >> 33


def keyed_order(num: int, *key: int | str) -> list[int]:
    """The permutation of range(num) that `key` names.

    Sorted by hash instead of shuffled by a generator, whose algorithm may change between
    versions of Python: an interrupted run has to find the same order again.
    """
    found: list[int] = _order(num, key).tolist()
    return found


@lru_cache(maxsize=2)  # a phase may span two
def epoch_order(num: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which epoch `epoch` visits `num` prompts, kept for the phases of the epoch."""
    order = _order(num, ("epoch", seed, epoch))
    order.flags.writeable = False
    return order


def phase_prompts(num_prompts: int, *, prompts_per_phase: int, seed: int, phase: int) -> list[int]:
    """The prompts of one rollout phase, as indices.

    Phase t takes positions [t * P, (t + 1) * P) of all epochs laid end to end, so an epoch
    visits every prompt once and no phase is short. A phase that spans two epochs may hold a
    prompt twice.
    """
    first, last = phase * prompts_per_phase, (phase + 1) * prompts_per_phase - 1
    epochs = range(first // num_prompts, last // num_prompts + 1)
    visits = np.concatenate([epoch_order(num_prompts, seed=seed, epoch=one) for one in epochs])
    start = first % num_prompts
    chosen: list[int] = visits[start : start + prompts_per_phase].tolist()
    return chosen


def seed_generators(*key: int | str) -> None:
    """Set the global generators of Python, NumPy and torch to what `key` names.

    Nothing of ours draws from them. A model with dropout does, and a reward term of somebody else's
    may: a phase that begins like this draws the same after a resume.
    """
    seed = keyed_seed(*key)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _order(num: int, key: tuple[int | str, ...]) -> np.ndarray:
    prefix = _digest(key)
    hashes = b"".join(_hash(prefix + index.to_bytes(8, "big")) for index in range(num))
    # Big-endian numbers sort as their bytes do; of equal ones the lower index comes first.
    return np.frombuffer(hashes, dtype=">u8").argsort(kind="stable")


def _digest(key: tuple[int | str, ...]) -> bytes:
    # JSON keeps the parts apart: ("a", "bc") is not ("ab", "c"), and 1 is not "1".
    return _hash(json.dumps(key).encode())


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
