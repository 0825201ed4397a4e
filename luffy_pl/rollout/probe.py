"""The proof that the policy's weights arrived in the engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from luffy_pl.records import Completion
from luffy_pl.rollout.engine import Request, RolloutEngine, Sampling

PROBE_TOKENS = 8
MOST_GIVEN = 320
"""Tokens that a prompt is repeated to, at most."""


def beyond_windows(
    prompt: Sequence[int], windows: Collection[int], *, max_model_len: int | None
) -> tuple[int, ...]:
    """The prompt, repeated until what follows no longer sees its beginning through any window.

    As far as MOST_GIVEN and an engine of `max_model_len` tokens, its model's if None, allow.
    """
    most = MOST_GIVEN if max_model_len is None else min(MOST_GIVEN, max_model_len - PROBE_TOKENS)
    wanted = max(len(prompt), min(max(windows), most))
    return (tuple(prompt) * -(-wanted // len(prompt)))[:wanted]


def probe_completions(
    engine: RolloutEngine, prompt: Sequence[int], *, temperature: float, seed: int
) -> list[Completion]:
    """Two short samples with the engine's log-probabilities, for the trainer to recompute."""
    sampling = Sampling(temperature=temperature, logprobs=True)
    request = Request(tuple(prompt), (seed, seed + 1), max_tokens=PROBE_TOKENS)
    return engine.generate([request], sampling=sampling)[0]
