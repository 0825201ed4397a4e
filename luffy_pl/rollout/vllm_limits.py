"""What vLLM 0.32 cannot do with a model on a CPU, told before it starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from luffy_pl.attention.layer_kinds import other_kinds
from luffy_pl.errors import EngineError, ModelError, first_line
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.process.hub import hub_problem

DELTA_RULE = ("qwen3_next", "qwen3_5")
"""Beginnings of the model types whose linear attention vLLM computes in a kernel of its own."""


def language_config(model_path: str, *, remote_code: str | None = None) -> Any:
    """Transformers' configuration of a model, of a wrapper that of the language model in it.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoConfig

    code = code_arguments(remote_code)
    problem = hub_problem(model_path)
    try:
        return AutoConfig.from_pretrained(model_path, **code).get_text_config()
    except (OSError, ValueError) as error:
        raise ModelError(
            "model",
            f"has no config.json ({problem or first_line(error)})",
            value=model_path,
            fix="give a Hugging Face folder with config.json and weights, or a hub name",
        ) from error


def caches_prefixes(config: Any) -> bool:
    """Whether answers to one prompt can share what was computed for it, on a CPU.

    Of layers that carry a state, vLLM keeps it at the end of a block alone. A prompt would have to
    end a step there, and on a CPU no prompt is split (`placement`).
    """
    return not other_kinds(config)


def check_computed(config: Any, *, dtype: str) -> None:
    """Refuse what vLLM does not compute on a CPU.

    Args:
        config: see `language_config`.
        dtype: of the engine's weights.

    Raises:
        EngineError: a package is missing, or its kernel is for another precision.
    """
    kind = getattr(config, "model_type", "")
    if kind.startswith("qwen3_5") and find_spec("torchvision") is None:
        raise EngineError(
            "data.engine.kind",
            "vLLM imports torchvision for Qwen3.5, also for text alone, and it is not installed",
            value=kind,
            fix="use data.engine.kind=hf",
        )
    if kind.startswith(DELTA_RULE) and dtype != "bfloat16":
        raise EngineError(
            "data.engine.dtype",
            f"vLLM on a CPU computes the linear attention of {kind} in bfloat16 alone",
            value=dtype,
            fix="use data.engine.kind=hf, or data.engine.dtype=bfloat16",
        )
