"""Every weight of a policy to the engine, as after each phase, without the probe."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from luffy_pl.bench.machine import median_seconds
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.start import start_engine

EOS = 2


def make_model(layers: int) -> LlamaForCausalLM:
    """SmolLM2-135M's shape at 30 layers, random weights, a tied head, float32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config).float()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a sync and of one copy of the weights between two places in memory."""
    model = make_model(args.layers)
    with TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder))
        engine = start_engine(folder, EngineConfig(max_model_len=256), stop_token_ids=[EOS])

    def sync() -> None:
        engine.load_weights(PolicyWeights(model.state_dict(), prefix=""), policy_version=0)

    weights = list(model.parameters())
    copies = [torch.empty_like(weight) for weight in weights]

    @torch.no_grad()
    def copy() -> None:
        for source, target in zip(weights, copies, strict=True):
            target.copy_(source)

    sync_cpu_s, sync_s = median_seconds(sync, steps=args.steps)
    copy_cpu_s, copy_s = median_seconds(copy, steps=args.steps)
    return {
        "bench": "sync",
        "parameters": sum(weight.numel() for weight in weights),
        "sync_s": sync_s,
        "sync_cpu_s": sync_cpu_s,
        "copy_s": copy_s,
        "copy_cpu_s": copy_cpu_s,
        "ratio": sync_cpu_s / copy_cpu_s,
    }
