"""A reward that sees the group: what a right answer is worth depends on the others."""

from luffy_pl.records import Group
from luffy_pl.registry import register


@register("reward", "rare_success")
def rare_success(group: Group) -> list[float]:
    """For a right answer the share of wrong ones among the graded; for the others 0."""
    graded = [paid for paid in group.rewards if paid is not None]
    share_wrong = graded.count(0.0) / len(graded) if graded else 0.0
    return [share_wrong if paid == 1.0 else 0.0 for paid in group.rewards]
