"""Two defects of vLLM 0.32 that a trainer in its process meets, mended from outside."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from vllm import LLM


def pack_experts_again(model: nn.Module) -> None:
    """Let experts on a CPU be packed whenever they are loaded, and not the first time alone.

    Their kernel reads packed weights; after a reload it would read plain ones as if they were.
    """
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.process_weights_after_loading = functools.partial(_load_and_pack, method)


def _load_and_pack(method: Any, layer: nn.Module) -> None:
    type(method).process_weights_after_loading(method, layer)
    method.moe_kernel.fused_experts.process_weights_after_loading(layer)


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


def _make_plain_elsewhere(cls: type, vllm_config: Any) -> None:
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

    cls.__init__ = init  # type: ignore[misc]
