"""Which of transformers' implementations of attention computes what a model means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DROPPED = ("softcap", "s_aux")
"""What transformers' sdpa is handed by some layers, a soft cap or sinks, and drops in silence."""


def own_attention(model: PreTrainedModel) -> str:
    """The implementation that the model has, or eager where sdpa would leave something out.

    Asked of the model itself by a forward pass of two tokens.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    implementation: str = model.config._attn_implementation
    if implementation != "sdpa":
        return implementation
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    dropped: set[str] = set()

    def noting(*args: Any, **others: Any) -> Any:
        dropped.update(name for name in DROPPED if others.get(name) is not None)
        return plain(*args, **others)

    ids_1L = torch.ones(1, 2, dtype=torch.long, device=model.device)
    ALL_ATTENTION_FUNCTIONS["sdpa"] = noting
    try:
        with torch.no_grad():
            model(input_ids=ids_1L, use_cache=False)
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
    return "eager" if dropped else implementation


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """The model with another implementation of its attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
