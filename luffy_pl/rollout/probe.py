"""The proof that the policy's weights arrived in the engine."""

from __future__ import annotations

from collections.abc import Sequence

from luffy_pl.records import Completion
from luffy_pl.rollout.engine import RolloutEngine, Sampling

PROBE_TOKENS = 8


def probe_completions(
    engine: RolloutEngine, prompt: Sequence[int], *, temperature: float, seed: int
) -> list[Completion]:
    """Two short samples with the engine's log-probabilities, for the trainer to recompute."""
    sampling = Sampling(max_tokens=PROBE_TOKENS, temperature=temperature, logprobs=True)
    return engine.generate([prompt], seeds_PS=[[seed, seed + 1]], sampling=sampling)[0]
