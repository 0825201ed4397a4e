"""Small numbers that can be multiplied by hand."""

import argparse
from typing import Any

from luffy_pl.bench.command import ARGUMENTS
from luffy_pl.estimate.devices import Device
from luffy_pl.estimate.plan import RankPlan, Shape
from luffy_pl.policy.flops import ModelSize

A_DEVICE = Device("by hand", 1e6, flops_bf16=1e6, flops_fp32=1e5, bytes_per_s=1e6)
A_SHAPE = Shape(
    parameters=1000,
    adapters=0,
    embeddings=400,
    layers=2,
    hidden=10,
    intermediate=40,
    vocab=20,
    kv_per_token=4,
    saved_per_token=800.0,
    size=ModelSize(parameters=600, attention=20),
)


def a_plan(**changes: Any) -> RankPlan:
    """Two ranks that train in bfloat16 on float32 weights and recompute layers."""
    fields: dict[str, Any] = {
        "ranks": 2,
        "ranks_per_machine": 2,
        "shards": 1,
        "tensor_ranks": 1,
        "offloads": False,
        "is_gpu": True,
        "weight_bytes": 4,
        "compute_bytes": 2,
        "optimizers": 1,
        "frozen": (),
        "recomputes": True,
        "micro_batch_tokens": 100,
        "engine_kind": "vllm",
        "engine_is_elsewhere": False,
        "engine_ranks": 1,
        "engine_bytes": 2,
        "engine_share": 0.5,
        "engine_cache_gib": 1,
        "sleeps": True,
        "engine_is_kept": False,
        "row_tokens": 30,
        "prompt_tokens": 20,
        "response_tokens": 10,
        "prompts": 4,
        "rollouts_per_prompt": 3,
        "given_per_prompt": 1,
        "steps_per_phase": 1,
    }
    return RankPlan(**{**fields, **changes})


def bench_arguments(**changes: int) -> argparse.Namespace:
    """Arguments of `luffy-pl bench learner`."""
    defaults = {name.replace("-", "_"): default for name, (default, _) in ARGUMENTS.items()}
    return argparse.Namespace(**{**defaults, **changes})
