"""Every weight of a policy to the engine, as after each phase, without the probe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from luffy_pl.bench.machine import median_seconds
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.start import start_engine

EOS = 2


def make_llama(layers: int) -> LlamaForCausalLM:
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
    """Seconds of a sync, of one copy of the weights between two places in memory, and of packing.

    packing: vLLM's kernels on a CPU hold matrices in an order of their own, without which nothing
    can be sampled from them; a sync can cost no less than a copy and that.
    """
    model = make_llama(args.layers)
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

    matrices = [weight.detach() for weight in weights if weight.dim() == 2]
    sync_cpu_s, sync_s = median_seconds(sync, steps=args.steps)
    copy_cpu_s, copy_s = median_seconds(copy, steps=args.steps)
    pack_cpu_s, _ = median_seconds(lambda: pack_matrices(matrices), steps=args.steps)
    return {
        "bench": "sync",
        "parameters": sum(weight.numel() for weight in weights),
        "sync_s": sync_s,
        "sync_cpu_s": sync_cpu_s,
        "copy_s": copy_s,
        "copy_cpu_s": copy_cpu_s,
        "pack_cpu_s": pack_cpu_s,
        "ratio": sync_cpu_s / copy_cpu_s,
        "ratio_with_packing": sync_cpu_s / (copy_cpu_s + pack_cpu_s),
    }


def pack_matrices(matrices: Sequence[Tensor]) -> None:
    """Each matrix in the order of vLLM's kernels, as `process_weights_after_loading` makes it."""
    from vllm import _custom_ops

    for matrix in matrices:
        _custom_ops.create_onednn_mm(matrix.t(), 32)
