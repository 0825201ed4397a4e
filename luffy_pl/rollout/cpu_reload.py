"""vLLM's reload on a CPU, with no copy but those that its kernels need.

Its own makes a new place for each weight, copies the weight there, packs it in the order that its
kernels read, and copies the plain one into the layer. Here a matrix that arrives whole is packed
from the trainer's tensor, pieces of a fused one are put together in a buffer that all layers share,
and an embedding is written where it lies. What vLLM finds for a weight stays its own business.
"""

from __future__ import annotations

import functools
from inspect import BoundArguments
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from vllm import LLM

UNCHANGED = "luffy_unchanged"
"""Attribute of a tensor that the engine was given before and has already."""
LOADERS = {
    "vllm.model_executor.layers.linear",
    "vllm.model_executor.layers.vocab_parallel_embedding",
}
"""Modules whose loaders copy and do nothing else."""


def reload_directly(llm: LLM) -> None:
    """Let an engine on a CPU take new weights in this way."""
    _install()
    llm.apply_model(leave_embeddings_plain)


@functools.cache
def _install() -> None:
    """For all engines of this process: vLLM's functions belong to no object."""
    from vllm.model_executor.model_loader.reload import layerwise

    layerwise._layerwise_process = LayerReload(layerwise._layerwise_process)
    layerwise.get_numel_loaded = functools.partial(num_loaded, layerwise.get_numel_loaded)


def leave_embeddings_plain(model: nn.Module) -> None:
    """Drop what vLLM packs of embeddings that are looked up and never multiplied with."""
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        UnquantizedEmbeddingMethod,
        VocabParallelEmbedding,
    )

    modules: list[Any] = list(model.modules())
    if not any(isinstance(module, ParallelLMHead) for module in modules):
        return  # the embedding is the head
    for module in modules:
        if type(module) is VocabParallelEmbedding and is_by(module, UnquantizedEmbeddingMethod):
            module.cpu_linear = F.linear


def num_loaded(original: Any, loader: Any, args: BoundArguments) -> tuple[int, object]:
    """Numbers that a loader would copy, and what it returns.

    vLLM finds out by loading into tensors without memory, which takes as long as a copy.
    """
    from vllm.model_executor.model_loader.weight_utils import default_weight_loader

    if loader is default_weight_loader or (
        copies_alone(loader) and getattr(loader.__self__, "tp_size", 0) == 1
    ):
        return args.arguments["loaded_weight"].numel(), None
    found: tuple[int, object] = original(loader, args)
    return found


class LayerReload:
    """In place of vLLM's `_layerwise_process`; what it does not know goes there.

    Args:
        original: vLLM's own.
    """

    def __init__(self, original: Any) -> None:
        self._original = original
        self._buffer = torch.empty(0)

    def __call__(self, layer: nn.Module, info: Any) -> None:
        """Load what has arrived for a layer."""
        from vllm.model_executor.model_loader.reload import layerwise

        if not is_matrix(layer, info):
            self._original(layer, info)
            return
        if not all(getattr(args.arguments["loaded_weight"], UNCHANGED, False)
                   for _, args in info.loaded_weights):  # fmt: skip
            self._load(layer, info)
        layerwise._place_kernel_tensors(layer, info)
        info.reset()

    def _load(self, layer: Any, info: Any) -> None:
        kernel = info.kernel_tensors[0]["weight"]
        is_packed = kernel.shape != layer.weight.shape
        whole = whole_weight(layer, info) if is_packed else None
        if whole is None:
            room = self._room(layer.weight) if is_packed else kernel.data
            self._fill(layer, info, room)
        else:
            load(layer, info, names=("bias",))
            layer.weight = nn.Parameter(whole, requires_grad=False)
        if layer.cpu_linear is not F.linear:
            layer.quant_method.process_weights_after_loading(layer)

    def _fill(self, layer: Any, info: Any, room: Tensor) -> None:
        """Let vLLM's loaders write into `room`."""
        empty = layer.weight  # it has a shape, a loader and no memory
        room.__class__, room.__dict__ = empty.__class__, dict(empty.__dict__)
        layer.weight = room
        load(layer, info, names=("weight", "bias"))

    def _room(self, like: Tensor) -> Tensor:
        """A place in the buffer, which holds one layer at a time."""
        if self._buffer.numel() < like.numel() or self._buffer.dtype != like.dtype:
            self._buffer = torch.empty(like.numel(), dtype=like.dtype)
        return self._buffer[: like.numel()].view(like.shape)


def load(layer: Any, info: Any, *, names: tuple[str, ...]) -> None:
    """Call vLLM's loaders of these parameters with what has arrived for them."""
    from vllm.model_executor.model_loader.reload import layerwise

    for name, args in info.loaded_weights:
        if name in names:
            parameter = getattr(layer, name)
            parameter.weight_loader = layerwise._get_original_loader(parameter)
            args.arguments["param"] = parameter
            parameter.weight_loader(*args.args, **args.kwargs)


def is_matrix(layer: nn.Module, info: Any) -> bool:
    """Whether it is a linear layer or an embedding as vLLM makes them, loaded before."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    if info.kernel_tensors is None or not hasattr(layer, "cpu_linear"):
        return False
    parameters, buffers = info.kernel_tensors
    return (
        is_by(layer, UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
        and "weight" in parameters
        and parameters.keys() <= {"weight", "bias"}
        and not buffers
        and copies_alone(getattr(layer.weight, "weight_loader", None))
        and all("loaded_weight" in args.arguments for _, args in info.loaded_weights)
    )


def is_by(layer: nn.Module, *methods: type) -> bool:
    """Whether exactly one of these methods computes the layer."""
    return type(getattr(layer, "quant_method", None)) in methods


def copies_alone(loader: Any) -> bool:
    """Whether a loader is that of a linear layer or an embedding."""
    while hasattr(loader, "__wrapped__"):
        loader = loader.__wrapped__
    return getattr(getattr(loader, "__func__", None), "__module__", None) in LOADERS


def whole_weight(layer: Any, info: Any) -> Tensor | None:
    """The trainer's tensor, where it can be packed as it is; None where a copy has to be made."""
    found = [args.arguments["loaded_weight"] for name, args in info.loaded_weights
             if name == "weight"]  # fmt: skip
    if len(found) != 1:
        return None
    [weight] = found
    wanted = layer.weight
    is_same = (weight.shape, weight.dtype) == (wanted.shape, wanted.dtype)
    is_plain = weight.device.type == "cpu" and weight.is_contiguous()
    return weight.detach() if is_same and is_plain else None
