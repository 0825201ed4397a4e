"""Seconds of a phase from a roofline: operations over FLOP/s, bytes over bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

from luffy_pl.estimate.devices import Device
from luffy_pl.estimate.memory import engine_parts, token_cache
from luffy_pl.estimate.plan import RankPlan, Shape
from luffy_pl.policy.flops import ModelSize, causal, training_passes

TRAINING_SHARE = 0.4
"""Share of a device's FLOP/s that training is assumed to reach: a usual value, not measured."""
BANDWIDTH_SHARE = 0.6
"""Share of a device's bandwidth that decoding is assumed to reach; likewise."""


@dataclass(frozen=True)
class PhaseEstimate:
    """One rollout phase: tokens over all ranks, and seconds.

    tokens_again, again_s: of further rounds of sampling, if every group fails in all of them.
    """

    rows: int
    sampled_tokens: float
    trained_tokens: float
    generate_s: float
    train_s: float
    tokens_again: float = 0.0
    again_s: float = 0.0


def estimate_phase(
    shape: Shape, plan: RankPlan, device: Device, *, response_tokens: int
) -> PhaseEstimate:
    """With answers of `response_tokens` tokens.

    Scoring, weight sync and evaluation are not in it.
    """
    rollouts, given = (
        plan.prompts * count for count in (plan.rollouts_per_prompt, plan.given_per_prompt)
    )
    prompt = mean_prompt(plan)
    trace = response_tokens if plan.mean_trace_tokens is None else plan.mean_trace_tokens
    flops = device.flops_bf16 if plan.compute_bytes == 2 else device.flops_fp32
    passes = float(
        training_passes(
            activation_checkpointing=plan.recomputes is True, adapters=shape.adapters > 0
        )
    )
    # Old log-probabilities: one more pass over all optimizer steps but the first.
    passes += (plan.steps_per_phase - 1) / plan.steps_per_phase
    lengths = ((rollouts, prompt + response_tokens), (given, prompt + trace))

    def forward(size: ModelSize) -> float:
        return sum(n * size.forward_flops(tokens, causal(tokens)) for n, tokens in lengths)

    frozen = sum(part.passes * forward(part.size or shape.size) for part in plan.frozen)
    operations = forward(shape.size) * passes + frozen

    def generate_s(rows: float) -> float:
        of_engine = rows * plan.engine_ranks / plan.ranks
        return generate_seconds(
            shape, plan, device, rollouts=of_engine, response_tokens=response_tokens
        )

    again = plan.prompts * plan.rows_again
    return PhaseEstimate(
        rows=rollouts + given,
        sampled_tokens=float(rollouts * response_tokens),
        trained_tokens=float(rollouts * (prompt + response_tokens) + given * (prompt + trace)),
        generate_s=generate_s(rollouts),
        tokens_again=plan.rounds_again * again * response_tokens,
        again_s=plan.rounds_again * generate_s(again) if again else 0.0,
        train_s=operations / (plan.ranks * TRAINING_SHARE * flops),
    )


def mean_prompt(plan: RankPlan) -> float:
    """Tokens of a prompt: those of the data, or as many as it may have."""
    return plan.prompt_tokens if plan.mean_prompt_tokens is None else plan.mean_prompt_tokens


def generate_seconds(
    shape: Shape, plan: RankPlan, device: Device, *, rollouts: float, response_tokens: int
) -> float:
    """Time of one engine: every step reads the weights and the caches of all running sequences."""
    engine = engine_parts(shape, plan, device)
    context = mean_prompt(plan) + response_tokens / 2
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
