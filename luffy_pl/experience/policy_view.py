"""What collecting a phase may ask of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

from luffy_pl.records import Experience

ScoredBy = Literal["reference", "teacher"]
"""The two kinds of frozen models that score tokens of a phase."""


class PolicyView(Protocol):
    """What may be asked of the policy while a phase is collected; every rank asks together."""

    def reward_penalty(self, experience: Experience) -> Tensor | None:
        """What is taken off each row's reward before rewards are compared, [N]."""
        ...

    def on_servers(self, phase: int) -> dict[ScoredBy, str]:
        """Names of the models that score a phase and are on a server."""
        ...

    def sum_over_ranks(self, value: Tensor, /) -> Tensor:
        """The sum of each rank's tensor."""
        ...

    def mean_entropies(
        self, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], *, temperature: float
    ) -> list[float]:
        """Mean token entropy in nats of each (prompt, response)."""
        ...
