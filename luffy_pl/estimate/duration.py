"""Seconds of a phase from a roofline: operations over FLOP/s, bytes over bandwidth."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luffy_pl.estimate.devices import Device
from luffy_pl.estimate.memory import engine_parts, sequences_held, token_cache
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
    """With answers of `response_tokens` tokens on average, and some as long as they may be.

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
    """Time of one engine: every step reads the weights and the caches of all running sequences.

    Answers have the lengths of `answer_lengths`, and the longest begin first: in the end a few are
    left, for which the weights are read as often as for many.
    """
    engine = engine_parts(shape, plan, device)
    prompt = mean_prompt(plan)
    per_token = token_cache(shape, plan)
    mean_tokens = prompt + response_tokens / 2
    held = sequences_held(shape, plan, engine["engine cache"], tokens=mean_tokens)
    together = max(1.0, rollouts) if held is None else held
    flops = device.flops_bf16 if plan.engine_bytes == 2 else device.flops_fp32

    def step_s(running: int, context: float) -> float:
        read = engine["engine weights"] + running * context * per_token
        compute = running * shape.size.forward_flops(1, context)
        return max(
            read / (BANDWIDTH_SHARE * device.bytes_per_s),
            compute / (TRAINING_SHARE * flops * plan.engine_ranks),
        )

    lengths = answer_lengths(
        response_tokens, longest=plan.response_tokens, count=max(1, round(rollouts))
    )
    return decode_seconds(lengths, together=max(1, int(together)), prompt=prompt, step_s=step_s)


def answer_lengths(mean: float, *, longest: int, count: int) -> list[float]:
    """Lengths of so many answers, in tokens, ascending.

    The distribution that says least beside its mean and its limit: a density that falls or rises
    exponentially up to the limit, and is even where the mean is half of it. Where the mean is the
    limit, all are as long.
    """
    if mean >= longest:
        return [float(mean)] * count

    def share(rate: float) -> float:
        """Mean over limit, of a density that falls by the factor e^rate up to the limit."""
        return 0.5 - rate / 12 if abs(rate) < 1e-6 else 1 / rate - 1 / math.expm1(rate)

    low, high = -500.0, 500.0
    for _ in range(100):
        rate = (low + high) / 2
        low, high = (rate, high) if share(rate) > mean / longest else (low, rate)
    places = [(number + 0.5) / count for number in range(count)]
    if abs(rate) < 1e-6:
        return [longest * place for place in places]
    return [-longest * math.log1p(place * math.expm1(-rate)) / rate for place in places]


def decode_seconds(
    lengths: Sequence[float], *, together: int, prompt: float, step_s: Callable[[int, float], float]
) -> float:
    """Time to sample answers of these lengths, ascending, so many at once, the longest first.

    Args:
        step_s: seconds of a step, of the sequences that run and the mean of their tokens.
    """
    waiting, running = list(lengths), list[tuple[float, float]]()  # (its last step, its first)
    now = started = total_s = 0.0
    while waiting or running:
        while waiting and len(running) < together:
            heapq.heappush(running, (now + waiting.pop(), now))
            started += now
        end = running[0][0]
        context = prompt + (now + end) / 2 - started / len(running)
        total_s += (end - now) * step_s(len(running), context)
        now = end
        while running and running[0][0] <= now:
            started -= heapq.heappop(running)[1]
    return total_s
