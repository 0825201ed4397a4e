"""Fixes from outside for defects of vLLM 0.32 that appear when a trainer replaces its weights.

`mend_loading` is for every process that loads weights: of the trainer, and of a server.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from vllm import LLM

HEAD = "lm_head.weight"


def mend_loading() -> None:
    """For all models that this process loads from now on."""
    if not torch.cuda.is_available():
        pack_experts_again()
    load_what_arrives()


@functools.cache
def load_what_arrives() -> None:
    """Let every weight be loaded for which a model has a place, and no other."""
    from vllm.model_executor.models.utils import AutoWeightsLoader

    load_as_kept(AutoWeightsLoader)


@functools.cache
def pack_experts_again() -> None:
    """Let experts on a CPU be packed whenever they are loaded, and not the first time alone.

    Their kernel reads packed weights; after a reload it would read plain ones as if they were.
    """
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import (
        UnquantizedFusedMoEMethod,
    )

    pack_at_every_load(UnquantizedFusedMoEMethod)


def pack_at_every_load(method: Any) -> None:
    """The same for a class of vLLM's methods."""
    load = method.process_weights_after_loading

    @functools.wraps(load)
    def load_and_pack(self: Any, layer: nn.Module) -> None:
        is_packed_by_load = self.moe_kernel is None
        load(self, layer)
        if not is_packed_by_load:
            self.moe_kernel.fused_experts.process_weights_after_loading(layer)

    method.process_weights_after_loading = load_and_pack


def load_as_kept(loader: Any) -> None:
    """Let a class of vLLM's loaders be given weights as its models keep them.

    A tied matrix arrives as embedding and as head, since most models of vLLM have both. Gemma 2
    has the embedding alone and refuses the head. Of gpt-oss, vLLM writes experts and sinks where
    they are; while weights are loaded again nothing is there, and only what the loader of a
    parameter is given arrives. For one expert at a time there is such a loader.
    """
    load = loader.load_weights

    @functools.wraps(load)
    def load_kept(self: Any, weights: Iterable[tuple[str, Tensor]], **more: Any) -> set[str]:
        model, sinks = self.module, set[str]()
        config = getattr(model, "config", None)
        if getattr(config, "tie_word_embeddings", False) and not has_head(model):
            weights = ((name, weight) for name, weight in weights if name != HEAD)
        if getattr(config, "model_type", "") == "gpt_oss" and not is_quantized(config):
            weights = others_than_sinks(model, each_expert(weights), sinks)
        return load(self, weights, **more) | sinks

    loader.load_weights = load_kept


def has_head(model: nn.Module) -> bool:
    """Whether a model of vLLM has a module for the head, or shares one under this name."""
    names = (name for name, _ in model.named_modules(remove_duplicate=False))
    return any(f"{name}.weight".endswith(HEAD) for name in names)


def is_quantized(config: Any) -> bool:
    """Whether vLLM keeps packed numbers and not the weights themselves."""
    return getattr(config, "quantization_config", None) is not None


def each_expert(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each expert by itself, under its number, where a file has those of a layer together."""
    for name, weight in weights:
        experts, _, end = name.rpartition(".")
        if experts.endswith(".experts") and end.startswith(("gate_up_proj", "down_proj")):
            for number, expert in enumerate(weight):
                yield f"{experts}.{number}.{end}", expert
        else:
            yield name, weight


def others_than_sinks(
    model: nn.Module, weights: Iterable[tuple[str, Tensor]], sinks: set[str]
) -> Iterator[tuple[str, Tensor]]:
    """The weights without sinks of attention, which it loads; fills `sinks` with their names."""
    from vllm.distributed import get_tensor_model_parallel_rank
    from vllm.model_executor.model_loader.weight_utils import default_weight_loader

    parameters = dict(model.named_parameters())
    for name, weight in weights:
        if not name.endswith(".sinks"):
            yield name, weight
            continue
        name = name.replace(".self_attn.", ".attn.")
        own = parameters[name]
        first = get_tensor_model_parallel_rank() * len(own)
        load = getattr(own, "weight_loader", default_weight_loader)
        load(own, weight[first : first + len(own)])
        sinks.add(name)


def share_classes(llm: LLM) -> None:
    """Let others make models of the classes that vLLM changed.

    It runs architectures that it does not have through transformers, and compiles their classes in
    place: from then on they ask for vLLM's configuration, which only exists while it loads.
    """
    from transformers import PreTrainedModel
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    classes = {PreTrainedModel}
    while classes:
        cls = classes.pop()
        classes |= set(cls.__subclasses__())
        if TorchCompileWithNoGuardsWrapper in cls.__bases__:
            _make_plain_elsewhere(cls, llm.llm_engine.vllm_config)


def _make_plain_elsewhere(cls: Any, vllm_config: Any) -> None:
    from vllm.config import CompilationMode, get_current_vllm_config_or_none

    compiled = cls.__init__
    plain_config = copy.copy(vllm_config)
    plain_config.compilation_config = copy.copy(vllm_config.compilation_config)
    plain_config.compilation_config.mode = CompilationMode.NONE

    @functools.wraps(compiled)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if get_current_vllm_config_or_none() is None:
            kwargs["vllm_config"] = plain_config
        compiled(self, *args, **kwargs)

    cls.__init__ = init
