"""Activations that the backward pass computes again instead of keeping them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Products and attention: nearly all of the work of a layer, and less than half of what it saves.
KEPT = {
    "aten::mm",
    "aten::addmm",
    "mkldnn::_linear_pointwise",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "flash_attn::_flash_attn_varlen_forward",
}


def recompute_layers(model: PreTrainedModel, which: bool | Literal["selective"]) -> None:
    """True: a layer keeps its input alone; selective: also the results of the operations KEPT."""
    if which is False:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if which == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, keep_products)
    model.gradient_checkpointing_enable(options)


def keep_products(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Whether the result of an operation is kept."""
    is_kept = isinstance(operation, torch._ops.OpOverload) and operation._schema.name in KEPT
    return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE
