"""The shape of a model without its weights: from its config.json, or a few known hub names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from luffy_pl.bundled import resolve
from luffy_pl.errors import ModelError
from luffy_pl.policy.lora import LoraConfig, add_adapters
from luffy_pl.process.hub import hub_problem

QWEN_7B = Qwen2Config(
    vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
    num_attention_heads=28, num_key_value_heads=4, tie_word_embeddings=False,
)  # fmt: skip
QWEN_1_5B = Qwen2Config(
    vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
    num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
QWEN_0_5B = Qwen2Config(
    vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
    num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
)  # fmt: skip
# Models of conf/ by their hub names, so that an estimate needs no network.
KNOWN: dict[str, PretrainedConfig] = {
    "Elliott/Qwen2.5-Math-7B-16k-think": QWEN_7B,
    "Qwen/Qwen2.5-Math-7B": QWEN_7B,
    "Qwen/Qwen2.5-7B-Instruct": QWEN_7B,
    "Qwen/Qwen2.5-Math-1.5B": QWEN_1_5B,
    "Qwen/Qwen2.5-0.5B-Instruct": QWEN_0_5B,
    "meta-llama/Llama-3.1-8B": LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA_8B,
}


def read_architecture(path: str, *, config_json: str | None = None) -> PretrainedConfig:
    """Read `model.policy.path`, or a file given instead; a ModelError if neither says."""
    source = config_json or resolve(path)
    if config_json is None and path in KNOWN and not Path(source).exists():
        return KNOWN[path]
    hub_problem(source)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            "model.policy.path" if config_json is None else "--config_json",
            "says nothing about the model: no config.json is found there",
            value=source,
            fix="give a Hugging Face folder or a hub name; luffy-pl estimate also takes a "
            "config.json alone, with --config_json FILE",
        ) from error
    return config


def weightless(
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    attention: str | None,
    lora: LoraConfig | None,
    code: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model on the meta device: shapes and types, no numbers; adapters in the same type.

    Args:
        code: what transformers is told of code beside the weights; by default none is run.
    """
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation=attention,
            **(code or {"trust_remote_code": False}),
        )
        if lora is not None:
            add_adapters(model, lora, seed=0)
    return model.to(dtype)
