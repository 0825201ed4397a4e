"""The proof that the policy's weights arrived in the engine."""

from __future__ import annotations

from collections.abc import Sequence

from luffy_pl.records import Completion
from luffy_pl.rollout.engine import Request, RolloutEngine, Sampling

PROBE_TOKENS = 8


def probe_completions(
    engine: RolloutEngine, prompt: Sequence[int], *, temperature: float, seed: int
) -> list[Completion]:
    """Two short samples with the engine's log-probabilities, for the trainer to recompute."""
    sampling = Sampling(temperature=temperature, logprobs=True)
    request = Request(tuple(prompt), (seed, seed + 1), max_tokens=PROBE_TOKENS)
    return engine.generate([request], sampling=sampling)[0]
