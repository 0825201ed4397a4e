"""A router: a prompt that too few rollouts solve is imitated, any other is reinforced."""

from dataclasses import dataclass

from luffy_pl.bounds import bounded
from luffy_pl.experience.routing import Router, with_roles
from luffy_pl.records import Group
from luffy_pl.registry import register


@register("router", "solve_share")
@dataclass(frozen=True)
class SolveShare(Router):
    """Compare the share of right rollouts of a group with a bound."""

    at_least: float = bounded(0.25, at_least=0, at_most=1)
    """Share of right rollouts from which a group is reinforced."""

    def route(self, group: Group) -> Group:
        """The group with the role of each row."""
        rollouts = [row for row in group.responses if row.source == "rollout"]
        num_right = sum(row.verdict.correct is True for row in rollouts)
        if num_right >= self.at_least * len(rollouts):
            return with_roles(group, rollouts="policy", given="none")
        return with_roles(group, rollouts="none", given="imitation")
