"""What became of the hints of a phase."""

from __future__ import annotations

import torch

from luffy_pl.objective.metrics import Pair
from luffy_pl.records import Experience


def hint_pairs(batch: Experience) -> dict[str, Pair]:
    """Numerators and denominators of this rank, as `hint/*`; none without guidance.

    given, nothing_to_tell, not_in_vocabulary, too_long: shares of the hints that were wanted, one
    for each group and round. rows: share of all rows that were sampled under a hint. share: how
    much those hints told, mean over such rows. solved: share of them that are right.
    """
    if not batch.hints:
        return {}
    rows = [row for group in batch.groups for row in group.responses]
    hinted = [row for row in rows if row.hint is not None]
    shares = [row.hint.share for row in rows if row.hint is not None]
    graded = [row.verdict.correct for row in hinted if row.verdict.correct is not None]
    counts: dict[str, tuple[float, int]] = {
        name: (count, batch.hints["wanted"])
        for name, count in batch.hints.items()
        if name != "wanted"
    }
    counts |= {
        "rows": (len(hinted), len(rows)),
        "share": (sum(shares), len(shares)),
        "solved": (sum(graded), len(graded)),
    }
    device = batch.reward_N.device
    return {
        f"hint/{name}": (torch.tensor(count, device=device), torch.tensor(total, device=device))
        for name, (count, total) in counts.items()
    }
