"""How long the matrix products of a step take when nothing else is done.

Shapes: K packed tokens, M predictions, H in and F out of a layer, L tokens of a row, D of a head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from luffy_pl.bench.machine import fastest
from luffy_pl.policy.flops import causal, model_size
from luffy_pl.policy.head import TILES
from luffy_pl.policy.product import add_product, product
from luffy_pl.training.micro_batches import MicroBatch


def product_seconds(language_model: PreTrainedModel, micros: Sequence[MicroBatch]) -> float:
    """CPU seconds of three products for each linear layer: output, and gradients of both factors.

    Every layer takes the tokens that have a successor, those of a prompt once in a micro-batch, and
    the head only those it must predict. Nothing is counted twice: what the head and attention
    compute again in the backward pass is not needed.
    """
    head = language_model.get_output_embeddings()
    layers = [m for m in language_model.modules() if isinstance(m, nn.Linear) and m is not head]
    num_by_shape = Counter((layer.in_features, layer.out_features) for layer in layers)
    num_tokens = sum(micro.num_computed for micro in micros)
    num_predicted = sum(int(micro.rows.response_mask_NT.sum()) for micro in micros)
    per_micro = num_tokens // len(micros)
    body_s = sum(
        num * three_products(per_micro, wide, out) for (wide, out), num in num_by_shape.items()
    )
    head_s = head_seconds(num_predicted, head.in_features, head.out_features)
    return body_s * len(micros) + attention_seconds(language_model, micros) + head_s


def attention_seconds(language_model: PreTrainedModel, micros: Sequence[MicroBatch]) -> float:
    """Seconds of scores, outputs and the gradients of their factors, inside the causal mask.

    Six products of [L, D] and [D, L] for each head, counted for the tokens a row attends to, at the
    rate of the longest row.
    """
    size = model_size(language_model)
    config = language_model.config
    num_heads = config.num_hidden_layers * config.num_attention_heads
    rows = [
        (length - 1, shared)
        for micro in micros
        for length, shared in zip(micro.num_tokens, micro.num_shared, strict=True)
    ]
    attended = sum(causal(length) - causal(shared) for length, shared in rows)
    longest = max(length for length, _ in rows)
    square_s = three_products(longest, size.attention // num_heads, longest)
    return 2 * num_heads * attended / longest**2 * square_s


def head_seconds(num_predicted: int, hidden: int, vocab: int) -> float:
    """Seconds of the head, at the shape of its tiles: all logits at once may not fit."""
    tokens, logits = TILES["cpu"]
    tokens = min(tokens, num_predicted)
    words = min(vocab, logits // tokens)
    tiles = num_predicted * vocab / (tokens * words)
    return tiles * three_products(tokens, hidden, words)


def three_products(tokens: int, wide: int, out: int) -> float:
    """CPU seconds of x W^T, g W and g^T x with x [tokens, wide] and W [out, wide]."""
    x_KH, weight_FH = torch.randn(tokens, wide), torch.randn(out, wide)
    grad_KF, x_grad_KH, weight_grad_FH = (
        torch.randn(tokens, out), torch.zeros_like(x_KH), torch.zeros_like(weight_FH)
    )  # fmt: skip
    return (
        fastest(lambda: product(x_KH, weight_FH))
        + fastest(lambda: add_product(x_grad_KH, grad_KF, weight_FH))
        + fastest(lambda: add_product(weight_grad_FH, grad_KF.t(), x_KH))
    )
