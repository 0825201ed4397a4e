"""Kinds of layers, told from a model's configuration."""

from __future__ import annotations

from typing import Any

ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


def other_kinds(config: Any) -> set[str]:
    """Layers that carry a state from token to token: recurrent and convolutional ones.

    Args:
        config: transformers' of a language model.
    """
    return set(getattr(config, "layer_types", None) or ()) - ATTENTION
