"""Seconds of a phase from a roofline: operations over FLOP/s, bytes over bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

from luffy_pl.estimate.devices import Device
from luffy_pl.estimate.memory import engine_parts, token_cache
from luffy_pl.estimate.plan import RankPlan, Shape
from luffy_pl.policy.flops import causal, training_passes

TRAINING_SHARE = 0.4
"""Share of a device's FLOP/s that training is assumed to reach: a usual value, not measured."""
BANDWIDTH_SHARE = 0.6
"""Share of a device's bandwidth that decoding is assumed to reach; likewise."""


@dataclass(frozen=True)
class PhaseEstimate:
    """One rollout phase: tokens over all ranks, and seconds."""

    rows: int
    sampled_tokens: float
    trained_tokens: float
    generate_s: float
    train_s: float


def estimate_phase(
    shape: Shape, plan: RankPlan, device: Device, *, response_tokens: int
) -> PhaseEstimate:
    """With answers and traces of `response_tokens` tokens, prompts as long as they may be.

    Scoring, weight sync and evaluation are not in it.
    """
    rollouts = plan.prompts * plan.rollouts_per_prompt
    rows = rollouts + plan.prompts * plan.given_per_prompt
    row_tokens = plan.prompt_tokens + response_tokens
    flops = device.flops_bf16 if plan.compute_bytes == 2 else device.flops_fp32
    again = plan.recomputes is True
    passes = float(training_passes(activation_checkpointing=again, adapters=shape.adapters > 0))
    # Old log-probabilities: one more pass over all optimizer steps but the first.
    passes += (plan.steps_per_phase - 1) / plan.steps_per_phase
    attended = causal(row_tokens)
    frozen = sum(
        part.passes * (part.size or shape.size).forward_flops(row_tokens, attended)
        for part in plan.frozen
    )
    forward = shape.size.forward_flops(row_tokens, attended)
    return PhaseEstimate(
        rows=rows,
        sampled_tokens=float(rollouts * response_tokens),
        trained_tokens=float(rows * row_tokens),
        generate_s=generate_seconds(
            shape,
            plan,
            device,
            rollouts=rollouts * plan.engine_ranks / plan.ranks,
            response_tokens=response_tokens,
        ),
        train_s=rows * (forward * passes + frozen) / (plan.ranks * TRAINING_SHARE * flops),
    )


def generate_seconds(
    shape: Shape, plan: RankPlan, device: Device, *, rollouts: float, response_tokens: int
) -> float:
    """Time of one engine: every step reads the weights and the caches of all running sequences."""
    engine = engine_parts(shape, plan, device)
    context = plan.prompt_tokens + response_tokens / 2
    per_sequence = context * token_cache(shape, plan)
    together = max(1.0, min(rollouts, engine["engine cache"] / per_sequence))
    read_s = (engine["engine weights"] + together * per_sequence) / (
        BANDWIDTH_SHARE * device.bytes_per_s
    )
    flops = device.flops_bf16 if plan.engine_bytes == 2 else device.flops_fp32
    compute_s = (
        together
        * shape.size.forward_flops(1, context)
        / (TRAINING_SHARE * flops * plan.engine_ranks)
    )
    return rollouts / together * response_tokens * max(read_s, compute_s)
