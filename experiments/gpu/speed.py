"""Tokens per second of an optimizer step, its share of the device's rate, and memory."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from skipping import needs_gpu
from transformers import AutoModelForCausalLM, PretrainedConfig, Qwen2Config

from luffy_pl.bench.learner import OBJECTIVE, backward_rows
from luffy_pl.bench.machine import gemm_flops
from luffy_pl.bench.workload import make_groups
from luffy_pl.estimate.memory import training_parts
from luffy_pl.estimate.plan import RankPlan, read_shape
from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.experience.compare import compare
from luffy_pl.objective.advantage import GroupAdvantage
from luffy_pl.policy.architecture import QWEN_0_5B, QWEN_1_5B
from luffy_pl.policy.flops import ForwardCount, model_size
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Experience
from luffy_pl.training.memory import peak_bytes
from luffy_pl.training.optimizer import build_optimizers, grad_norm_and_clip, learning_rates
from luffy_pl.training.settings import OptimizerConfig

TINY = Qwen2Config(
    vocab_size=4000, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
# Prompts of a step, with 8 answers each; tokens of a prompt, the longest answer, a micro-batch.
GPU_WORK, CPU_WORK = (8, 256, 2048, 32768), (2, 32, 128, 512)
STEPS, WARM_UP, MATRIX = 3, 2, 8192


def measure(device: str, config: PretrainedConfig, work: tuple[int, ...]) -> dict[str, Any]:
    """Steps of GRPO with AdamW: float32 weights, on a GPU in bfloat16 by autocast."""
    prompts, prompt_len, max_len, tokens = work
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    policy = Policy(model).train()
    policy.context = precision(device)
    settings = OptimizerConfig(lr=1e-6, micro_batch_tokens=tokens)
    rates = learning_rates(settings, num_phases=1)
    [built] = build_optimizers(policy.trained_weights(), settings, rates)
    groups = make_groups(
        argparse.Namespace(
            vocab=config.vocab_size, prompts=prompts, prompt_len=prompt_len, max_len=max_len, seed=0
        )
    )
    phase = collate(groups, phase=0, temperature=1.0, steps=plan_steps(len(groups), 1))
    experience = compare(phase, None, GroupAdvantage(scale="group_std")).to(device)
    forwards, seconds = ForwardCount(), []
    for _ in range(WARM_UP + STEPS):
        began_s = now(device)
        num_tokens = step(policy, built["optimizer"], experience, settings, forwards)
        seconds.append(now(device) - began_s)
    step_s = sorted(seconds[WARM_UP:])[STEPS // 2]
    flops = 3 * model_size(policy.language_model).forward_flops(*forwards.take(trained=True))
    rate = matrix_rate(device)
    return {
        "tokens_per_s": num_tokens / step_s,
        "step_s": step_s,
        "matrix_tflops": rate / 1e12,
        "share_of_matrix_rate": flops / (WARM_UP + STEPS) / step_s / rate,
        **memory(device, config, tokens),
    }


def precision(device: str) -> Callable[[], Any]:
    """As Lightning's bf16-mixed on a GPU."""
    if device == "cuda":
        return partial(torch.autocast, "cuda", torch.bfloat16, cache_enabled=False)
    return nullcontext


def step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    settings: OptimizerConfig,
    forwards: ForwardCount,
) -> int:
    """One optimizer step; the tokens of its rows."""
    done = backward_rows(
        policy,
        experience,
        objective=OBJECTIVE,
        token_budget=settings.micro_batch_tokens,
        forwards=forwards,
    )
    grad_norm_and_clip(policy.parameters(), max_norm=1.0)
    optimizer.step()
    optimizer.zero_grad()
    return sum(sum(micro.num_tokens) for micro in done.micros)


def now(device: str) -> float:
    """Seconds, when the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(device: str) -> float:
    """FLOP/s of a product of large square matrices, in the type that layers compute in."""
    if device == "cpu":
        return gemm_flops()
    left, right = (
        torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2)
    )
    times_s = []
    for _ in range(10):
        began_s = now(device)
        left @ right
        times_s.append(now(device) - began_s)
    return 2 * MATRIX**3 / min(times_s)


def memory(device: str, config: PretrainedConfig, tokens: int) -> dict[str, float]:
    """Peak in GiB, beside what `luffy-pl estimate` says of the same."""
    is_gpu = device == "cuda"
    compute_bytes = 2 if is_gpu else 4
    plan = RankPlan(
        ranks=1, ranks_per_machine=1, shards=1, tensor_ranks=1, offloads=False, is_gpu=is_gpu,
        weight_bytes=4, compute_bytes=compute_bytes, optimizers=1, frozen=(), recomputes=False,
        micro_batch_tokens=tokens, engine_kind="hf", engine_is_elsewhere=True, engine_ranks=1,
        engine_bytes=2, engine_share=0.0, engine_cache_gib=0, sleeps=False, engine_is_kept=False,
        row_tokens=tokens, prompt_tokens=0, response_tokens=tokens, prompts=1,
        rollouts_per_prompt=1, given_per_prompt=0, steps_per_phase=1,
    )  # fmt: skip
    estimated = sum(training_parts(read_shape(config, compute_bytes=compute_bytes), plan).values())
    peak = torch.cuda.max_memory_allocated() if is_gpu else peak_bytes()
    return {"peak_gib": peak / 2**30, "estimated_gib": estimated / 2**30}


def measure_tiny(device: str) -> dict[str, Any]:
    """The same path at a size that a CPU takes; its memory is that of the whole process."""
    return measure(device, TINY, CPU_WORK)


def measure_large(device: str, config: PretrainedConfig) -> dict[str, Any]:
    """At the shape of a model that people train."""
    needs_gpu(device)
    return measure(device, config, GPU_WORK)


CHECKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "speed_tiny": measure_tiny,
    "speed_0.5b": partial(measure_large, config=QWEN_0_5B),
    "speed_1.5b": partial(measure_large, config=QWEN_1_5B),
}
