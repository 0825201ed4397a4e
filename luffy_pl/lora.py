"""Low-rank adapters on frozen weights, and the plain weights that they make together.

Hu et al. 2021 (arXiv 2106.09685). Shapes: M outputs, K inputs, R rank; A is [R, K], B [M, R].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from luffy_pl.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Where peft puts the weights of a layer with the adapter "default".
BASE, A, B = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def add_adapters(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    target_modules: Sequence[str] | None,
    seed: int,
) -> None:
    """Freeze a model and give linear layers adapters; its class and its output stay.

    Adapters are float32 beside weights of less: an update is far below the precision of bfloat16.

    Args:
        target_modules: last part of the layers' names; None takes all but the head.
        seed: of the start of A, so that it is the same on every rank; B starts at 0.
    """
    if find_spec("peft") is None:
        raise ConfigError(
            "model.policy.lora",
            "needs the package peft",
            fix="pip install 'luffy-pl[lora]', or lora: null",
        )
    from peft import LoraConfig, inject_adapter_in_model

    layers = adapted_layers(model, target_modules)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def adapted_layers(model: PreTrainedModel, target_modules: Sequence[str] | None) -> list[str]:
    """Full names of the linear layers that get an adapter.

    Raises:
        ConfigError: a name is that of embedding or head, or of no linear layer.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    found = {name: module for name, module in model.named_modules() if name}
    linear = [
        name
        for name, module in found.items()
        if isinstance(module, nn.Linear) and module not in ends
    ]
    if target_modules is None:
        return linear
    known = sorted({last_part(name) for name in linear})
    for target in target_modules:
        if target not in known:
            is_end = any(last_part(name) == target for name in found if found[name] in ends)
            raise ConfigError(
                "model.policy.lora.target_modules",
                "embedding and head stay as they are" if is_end else "no linear layer has the name",
                value=target,
                fix=f"choose among {', '.join(known)}",
            )
    return [name for name in linear if last_part(name) in target_modules]


def last_part(name: str) -> str:
    """`model.layers.0.self_attn.q_proj` is a `q_proj`."""
    return name.rpartition(".")[2]


def plain_weights(
    weights: Mapping[str, Any],
) -> Iterator[tuple[str, Any, tuple[Any, Any] | None]]:
    """Name in the base's checkpoint, the base's weight, and its adapter (A, B) if it has one."""
    for name, weight in weights.items():
        if name.endswith((A, B)):
            continue
        layer, _, kind = name.rpartition(BASE)
        adapter = (weights[layer + A], weights[layer + B]) if kind == "weight" and layer else None
        yield name.replace(BASE, "."), weight, adapter


def merged_weights(
    weights: Mapping[str, Any], *, scale: float | None
) -> Iterator[tuple[str, Tensor]]:
    """W + scale B A under the base's names, one at a time and whole; all ranks exhaust it.

    In the wider type of both, so that whoever takes it rounds once.
    """
    for name, weight, adapter in plain_weights(weights):
        if adapter is None or scale is None:
            yield name, whole(weight)
            continue
        a_RK, b_MR = map(whole, adapter)
        dtype = torch.promote_types(weight.dtype, a_RK.dtype)
        yield name, torch.addmm(whole(weight).to(dtype), b_MR, a_RK, alpha=scale)


def whole(weight: Any) -> Tensor:
    """Gathered from all ranks where it is sharded."""
    gathered: Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return gathered.detach()
