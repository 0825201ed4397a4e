"""What autograd keeps of a forward pass, counted on a model without weights.

Every tensor that an operation saves for its backward pass is seen once, whatever the architecture;
nothing is computed. Shapes: L tokens of one packed sequence, h and k heads, D of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from luffy_pl.policy.architecture import weightless
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.self_check import explained

SAVES_NO_SCORES = "luffy_pl_saves_no_scores"
PROBE_TOKENS = 256


class _Attention(torch.autograd.Function):
    """What flash kernels keep: their inputs, the output, one number per token and head."""

    @staticmethod
    def forward(ctx: Any, query_1hLD: Tensor, key_1kLD: Tensor, value_1kLD: Tensor) -> Tensor:
        output_1hLD = torch.empty_like(query_1hLD)
        lse_1hL = query_1hLD.new_empty(query_1hLD.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query_1hLD, key_1kLD, value_1kLD, output_1hLD, lse_1hL)
        return output_1hLD


def _saves_no_scores(
    module: nn.Module, query_1hLD: Tensor, key_1kLD: Tensor, value_1kLD: Tensor, *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    output_1hLD = _Attention.apply(query_1hLD, key_1kLD, value_1kLD)
    # The rows' outputs are copied into one tensor, as packed attention does, even of one.
    return torch.cat([output_1hLD.transpose(1, 2)], dim=1), None


AttentionInterface.register(SAVES_NO_SCORES, _saves_no_scores)


def shape_alone(
    config: PretrainedConfig, *, dtype: torch.dtype, lora: LoraConfig | None
) -> PreTrainedModel:
    """The model without weights; its attention saves no scores, if its class lets one choose."""
    try:
        return weightless(config, dtype=dtype, attention=SAVES_NO_SCORES, lora=lora)
    except KeyError:  # it looks its attention up in a table of its own
        return weightless(config, dtype=dtype, attention=None, lora=lora)


def saved_bytes_per_token(
    config: PretrainedConfig, *, dtype: torch.dtype, lora: LoraConfig | None = None
) -> float:
    """Bytes of the body's activations that a backward pass needs, for each packed token.

    Raises:
        ModelError: the model's own forward pass fails.
    """
    model = shape_alone(config, dtype=dtype, lora=lora).train()
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            saved[storage] = tensor  # held, so that no other tensor gets its name
        return tensor

    tokens_1L = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device="meta")
    with explained(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(
            input_ids=tokens_1L,
            position_ids=torch.arange(PROBE_TOKENS, device="meta")[None],
            use_cache=False,
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values()) / PROBE_TOKENS
