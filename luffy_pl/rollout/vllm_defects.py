"""Fixes from outside for two defects of vLLM 0.32 that appear when a trainer shares its process."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from vllm import LLM


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
