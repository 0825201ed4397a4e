"""Rotary positions whose frequencies change with the longest row of a forward pass.

transformers' `dynamic` and `longrope` choose other frequencies for all tokens of a pass as soon as
one of them is beyond the length that the model was first trained on. A row would then depend on
the rows it is packed with, and its own beginning on how it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from luffy_pl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def longest_row(model: PreTrainedModel) -> int | None:
    """Tokens up to which frequencies stay as they are; None: they never change."""
    limits = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
        for layer, kind in by_layer.items():
            settings = getattr(getattr(module, "config", None), "rope_parameters", None) or {}
            if kind == "longrope":
                own = settings if layer is None else settings[layer]
                limits.append(own["original_max_position_embeddings"])
            elif kind is not None and "dynamic" in kind:
                limits.append(module.original_max_seq_len)
    return min(limits, default=None)


def check_lengths(num_tokens: Sequence[int], longest: int | None) -> None:
    """Refuse rows with which frequencies would change."""
    if longest is not None and max(num_tokens) > longest:
        raise ModelError(
            "model.policy.path",
            f"the model's rotary frequencies change beyond {longest} tokens, for all rows of a "
            "forward pass",
            value=max(num_tokens),
            fix="limit prompt and answer together to as many (data.rollout.max_response_tokens), "
            "or give the model rope_parameters that do not change, such as yarn",
        )
