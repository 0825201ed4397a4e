"""What a phase took on this rank: tokens sampled, seconds by stage."""

from __future__ import annotations

from typing import Any

from luffy_pl.records import Experience


def sampled_tokens(batch: Experience) -> int:
    """Tokens that an engine sampled for the phase, whatever became of them."""
    return sum(sum(request.num_sampled) for request in batch.sampled)


def stage_seconds(outputs: Any, batch: Experience) -> dict[str, float]:
    """generate, score, train, and ask where a teacher is on a server.

    Args:
        outputs: those of the training step.
    """
    return {**batch.timings_s, "train": float(outputs["train_s"])}
