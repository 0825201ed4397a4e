"""Low-rank adapters on frozen weights, and the plain weights that they make together.

Hu et al. 2021 (arXiv 2106.09685). Shapes: M outputs, K inputs, R rank; A is [R, K], B [M, R].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.policy.gathering import as_asked, whole_weights

# transformers' model; not by name, for the parser, which reads LoraConfig, would import it.
Model = Any
# Where peft puts the weights of a layer with the adapter "default".
BASE, A, B = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685): W + alpha / rank * B A, with W as it was loaded."""

    rank: int = bounded(16, at_least=1, at_most=1e6)
    """Rows of A and columns of B."""
    alpha: float = bounded(32.0, above=0, at_most=1e6)
    """Over the rank, the factor of an adapter."""
    target_modules: tuple[str, ...] | None = None
    """Names of the linear layers that get one, such as q_proj; null takes all but the head."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.policy.lora")
        if self.target_modules is not None and not self.target_modules:
            raise ConfigError(
                "model.policy.lora.target_modules",
                "names no layer",
                value=[],
                fix="name some, or null for all",
            )

    @property
    def scale(self) -> float:
        """Factor of B A."""
        return self.alpha / self.rank


def add_adapters(model: Model, lora: LoraConfig, *, seed: int) -> None:
    """Freeze a model and give linear layers adapters; its class and its output stay.

    Adapters are float32 beside weights of less: an update is far below the precision of bfloat16.

    Args:
        seed: of the start of A, so that it is the same on every rank; B starts at 0.

    Raises:
        ConfigError: peft is not installed, or see `adapted_layers`.
    """
    if find_spec("peft") is None:
        raise ConfigError(
            "model.policy.lora",
            "needs the package peft, which is not installed",
            fix="pip install peft, or lora: null",
        )
    import peft

    # Within a module that has no configuration: of some families (Qwen3-Next, Qwen2-MoE) peft would
    # take the gate_proj of a layer for that of fused experts, and adapt these instead.
    within = nn.ModuleDict({"model": model})
    layers = [f"model.{name}" for name in adapted_layers(model, lora.target_modules)]
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=layers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, within)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


@contextmanager
def adapters_off(model: Model) -> Iterator[None]:
    """Let a model compute with its own weights alone; what is trained stays trained.

    Not by peft's `enable_adapters`, which would also take the gradient from the adapters.
    """
    layers = [module for module in model.modules() if hasattr(module, "_disable_adapters")]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def adapted_layers(model: Model, target_modules: Sequence[str] | None) -> list[str]:
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
    weights: Mapping[str, Any], *, scale: float | None, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Tensor]]:
    """W + scale B A under the base's names, whole; all ranks exhaust it.

    Args:
        scale: None where there are no adapters.
        dtype: of matrices, which are rounded once; None: that of the weights, or the wider of
            theirs and that of their adapters.
    """
    if scale is None:
        plain = ((name, weight) for name, weight, _ in plain_weights(weights))
        yield from whole_weights(plain, dtype=dtype)
        return
    for name, weight, adapter in plain_weights(weights):
        merged = whole(weight)
        if adapter is not None:
            a_RK, b_MR = map(whole, adapter)
            wide = torch.promote_types(weight.dtype, a_RK.dtype)
            merged = torch.addmm(merged.to(wide), b_MR, a_RK, alpha=scale)
        yield name, as_asked(merged, dtype)


def whole(weight: Any) -> Tensor:
    """Gathered from all ranks where it is sharded."""
    gathered: Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return gathered.detach()
