"""Floating-point operations of a run, from what went through the model.

A forward pass of one token that attends to c tokens, itself included, costs

    2 P + 4 layers width c

with P the parameters without the embeddings, the head counted in, layers those that attend, and
width = heads x head size, the hidden size of most models. 2 P is Kaplan et al. 2020
(arXiv 2001.08361, section 2.1), the attention term (queries times keys, and weights times values)
Chowdhery et al. 2022 (arXiv 2204.02311, appendix B), here with the c that causal attention really
has. A backward pass costs two forward ones, or one where adapters alone are trained, since frozen
weights need no gradient; activation checkpointing repeats the forward pass within it. So a trained
token costs 6 P, or 8 P (4 P, or 6 P, with adapters), and as many times the attention term.

An estimate of the work that a method asks for, and not of what a machine does: padding, the
prompts' way through the head (which is counted although it is left out) and the last token of an
answer (which is sampled and never read) make no difference between methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from luffy_pl.records import Sampled

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class ModelSize:
    """What the cost of a token depends on.

    Args:
        parameters: without the embeddings, with the head.
        attention: layers x heads x head size.
    """

    parameters: int
    attention: int

    def forward_flops(self, tokens: float, attended: float) -> float:
        """FLOPs of `tokens` tokens that attend to `attended` tokens in total."""
        return 2.0 * self.parameters * tokens + 4.0 * self.attention * attended


def model_size(model: PreTrainedModel) -> ModelSize:
    """Count a causal language model; the whole model if its weights are sharded."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    # A tied matrix is among the parameters once, and is needed: as the head.
    unused = 0 if head is embedding else embedding.numel()
    config = model.config.get_text_config()
    layers, heads, _, head_size = attention_size(config)
    return ModelSize(
        parameters=sum(weight.numel() for weight in model.parameters()) - unused,
        attention=layers * heads * head_size,
    )


def attention_size(config: PretrainedConfig) -> tuple[int, int, int, int]:
    """Layers that attend to all tokens before them, heads, heads of keys and values, size of one.

    Zeros for a model without attention.
    """
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return 0, 0, 0, 0
    kinds = getattr(config, "layer_types", None) or ["attention"] * config.num_hidden_layers
    layers = sum("attention" in kind and "linear" not in kind for kind in kinds)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return layers, heads, getattr(config, "num_key_value_heads", None) or heads, head_size


def cached_numbers(config: PretrainedConfig) -> int:
    """Numbers of the keys and values of one token, in all layers."""
    layers, _, heads, head_size = attention_size(config)
    return 2 * layers * heads * head_size


def causal(num_tokens: float) -> float:
    """Tokens attended to by a sequence, by all of its tokens: 1 + 2 + ... + num_tokens."""
    return num_tokens * (num_tokens + 1) / 2


def sampling_flops(size: ModelSize, requests: Iterable[Sampled]) -> float:
    """FLOPs of an engine that reads the prompt of a request once for all of its answers."""
    total = 0.0
    for request in requests:
        given = request.num_given if request.num_sampled else 0
        total += size.forward_flops(given, causal(given))
        for sampled in request.num_sampled:
            attended = causal(given + sampled) - causal(given)
            total += size.forward_flops(sampled, attended)
    return total


def training_passes(*, activation_checkpointing: bool, adapters: bool) -> int:
    """Forward passes that a forward and a backward pass cost."""
    return 3 + activation_checkpointing - adapters


class ForwardCount:
    """Tokens the trainer sent through a model since it was last asked, and what they attended to.

    Sums stay on the device: counting must not make the host wait for it.
    """

    def __init__(self) -> None:
        self._sums: dict[bool, Tensor] = {}

    def add(self, num_tokens_N: Tensor, is_row_N: Tensor, *, trained: bool) -> None:
        """One forward pass over the rows where `is_row_N`; `trained`: with a backward pass."""
        length_N = num_tokens_N.double().masked_fill(~is_row_N, 0)
        found = torch.stack([length_N.sum(), (length_N * (length_N + 1) / 2).sum()])
        self._sums[trained] = self._sums[trained] + found if trained in self._sums else found

    def take(self, *, trained: bool) -> tuple[float, float]:
        """Tokens and attended tokens; counting starts again at 0."""
        sums = self._sums.pop(trained, None)
        if sums is None:
            return 0.0, 0.0
        tokens, attended = sums.tolist()
        return tokens, attended
