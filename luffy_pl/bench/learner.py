"""Time optimizer steps with the functions of a run, without Lightning, engine or files."""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import torch
from torch import Tensor

from luffy_pl.bench.gemm import product_seconds
from luffy_pl.bench.machine import WARM_UP, seconds
from luffy_pl.bench.workload import make_groups, make_model
from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.experience.compare import compare
from luffy_pl.objective.advantage import Advantage, GroupAdvantage
from luffy_pl.objective.gate import PpoClip
from luffy_pl.objective.normalize import count_read, count_terms
from luffy_pl.objective.settings import (
    EntropyConfig,
    NormalizerConfig,
    ObjectiveConfig,
    OnPolicyConfig,
)
from luffy_pl.objective.terms import OptimizerStep, active_terms
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.policy.head import KEPT
from luffy_pl.policy.policy import Policy
from luffy_pl.records import Experience, Group
from luffy_pl.training.memory import keep_freed_memory, peak_bytes
from luffy_pl.training.micro_batches import MicroBatch, micro_batches
from luffy_pl.training.minibatch import BackwardPass, Before, Seen, backward_micro_batches
from luffy_pl.training.optimizer import build_optimizers, grad_norm_and_clip, learning_rates
from luffy_pl.training.settings import OptimizerConfig

OBJECTIVE = ObjectiveConfig(
    on_policy=OnPolicyConfig(gate=PpoClip()),
    normalizer=NormalizerConfig(mode="token"),
    entropy=EntropyConfig(coef=0.0),
)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds and tokens per second of a step, and peak memory of the process in MiB.

    gemm_fraction: median over steps of the CPU time of the matrix products that every
    implementation needs, timed alone right after the step, over the CPU time of the step.
    """
    keep_freed_memory()
    groups = make_groups(args)
    longest = args.prompt_len + max(len(row.token_ids) for g in groups for row in g.responses)
    most = args.micro_rows * longest
    config = OptimizerConfig(
        lr=1e-6,
        weight_decay=0.0,
        # Fewer than asked for if all logits can then be kept, which saves one product of four.
        micro_batch_tokens=min(most, max(longest, KEPT["cpu"] // args.vocab)),
    )
    policy = Policy(make_model(args)).train()
    [built] = build_optimizers(
        list(policy.parameters()), config, learning_rates(config, num_phases=1)
    )
    losses: list[float] = []
    norms: list[float] = []
    micros: list[MicroBatch] = []

    def once() -> None:
        loss, norm, micros[:] = train_step(policy, built["optimizer"], groups, config)
        losses.append(loss.item())
        norms.append(norm.item())

    timed, fractions = [], []
    for _ in range(WARM_UP + args.steps):
        cpu_s, wall_s = seconds(once)
        timed.append((cpu_s, wall_s))
        # Step by step: the rate of a shared machine changes within the minute this takes.
        fractions.append(product_seconds(policy.language_model, micros) / cpu_s)
    step_cpu_s, step_s = map(median, zip(*timed[WARM_UP:], strict=True))
    peak_mib = peak_bytes() // 2**20
    real_tokens = sum(sum(micro.num_tokens) for micro in micros)
    return {
        "side": "luffy_pl",
        "real_tokens": real_tokens,
        "step_s": step_s,
        "step_cpu_s": step_cpu_s,
        "tokens_per_s": real_tokens / step_s,
        "peak_rss_mib": peak_mib,
        "gemm_fraction": median(fractions[WARM_UP:]),
        "grad_norm": norms[:2],
        "loss": losses[:2],
    }


def train_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    groups: list[Group],
    config: OptimizerConfig,
) -> tuple[Tensor, Tensor, list[MicroBatch]]:
    """Graded groups to moved weights; returns loss, gradient norm and the micro-batches."""
    done = backward_step(
        policy,
        groups,
        objective=OBJECTIVE,
        advantage=GroupAdvantage(scale="group_std"),
        token_budget=config.micro_batch_tokens,
    )
    norm = grad_norm_and_clip(policy.parameters(), max_norm=config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return done.losses.sum(), norm, list(done.micros)


def backward_step(
    policy: Policy,
    groups: list[Group],
    *,
    objective: ObjectiveConfig,
    advantage: Advantage,
    token_budget: int,
) -> BackwardPass:
    """Graded groups to the gradient of one optimizer step, added to the weights' own."""
    experience = compare(
        collate(
            groups,
            phase=0,
            temperature=1.0,
            steps=plan_steps(len(groups), 1),
            masks_truncated=advantage.truncated == "mask",
        ),
        None,
        advantage,
    )
    return backward_rows(
        policy,
        experience,
        objective=objective,
        token_budget=token_budget,
        forwards=ForwardCount(),
    )


def backward_rows(
    policy: Policy,
    experience: Experience,
    *,
    objective: ObjectiveConfig,
    token_budget: int,
    forwards: ForwardCount,
) -> BackwardPass:
    """All rows of a record to the gradient of one optimizer step, added to the weights' own."""
    rows = list(range(len(experience.group_N)))
    micros = micro_batches(
        experience,
        rows,
        token_budget=token_budget,
        shares_prompts=policy.shares_prompts,
        packs_rows=policy.packs_rows,
    )
    mask_NT = experience.response_mask_NT
    old_NT = torch.full(mask_NT.shape, torch.nan, device=mask_NT.device)
    return backward_micro_batches(
        policy,
        micros,
        step=OptimizerStep(
            objective=objective,
            terms=active_terms(objective, 0, entropy_coef=0.0, kl_coef=0.0, foreign={}),
            totals=count_terms(experience, rows, objective) | count_read(experience, rows),
            max_response_tokens=1,
        ),
        forwards=forwards,
        before=Before(old_NT),
        frozen=FrozenModels({}),
        seen=Seen.like(old_NT),
        backward=torch.Tensor.backward,
    )
