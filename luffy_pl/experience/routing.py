"""Which rows of a group learn, decided by what came of the group: the kind `router`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.records import Group, Role
from luffy_pl.registry import register


class Router(ABC):
    """Decides for a graded group which of its rows learn, and in which term of the loss."""

    @abstractmethod
    def route(self, group: Group) -> Group:
        """Return the group with the role of each row; rows and rewards stay as they are."""


@register("router", "solve_count")
@dataclass(frozen=True)
class SolveCount(Router):
    """Bounds on the number of right rollouts of a group.

    HPT (arXiv 2509.04419): a prompt that the policy cannot solve is imitated, any other is
    reinforced.

    At most `imitate_up_to`: only the expert rows learn, by imitation. At most `guide_up_to`: only
    the expert rows learn, in the policy term. More: only the rollouts learn, in the policy term.
    """

    imitate_up_to: int = bounded(0, at_least=0, at_most=1e6)
    """Right rollouts up to which a prompt is imitated."""
    guide_up_to: int | None = bounded(None, at_least=0, at_most=1e6)
    """Right rollouts up to which a prompt's expert rows stay in the policy term; null is off."""

    def __post_init__(self) -> None:
        check_bounds(self)
        guide = self.guide_up_to
        if guide is not None and guide < self.imitate_up_to:
            raise ConfigError(
                "guide_up_to",
                f"must be at least imitate_up_to={self.imitate_up_to}",
                value=guide,
                fix="raise it, or null",
            )

    def route(self, group: Group) -> Group:
        """See `Router.route`."""
        solved = sum(row.is_unaided and row.verdict.correct is True for row in group.responses)
        if solved <= self.imitate_up_to:
            return with_roles(group, rollouts="none", given="imitation")
        if self.guide_up_to is not None and solved <= self.guide_up_to:
            return with_roles(group, rollouts="none", given="policy")
        return with_roles(group, rollouts="policy", given="none")


def with_roles(group: Group, *, rollouts: Role, given: Role) -> Group:
    """The group with one role for its rollouts and one for all other rows.

    A row that was sampled under a hint may be wrong: where other rows are imitated, it is left out.
    """
    role: dict[str, Role] = {
        "rollout": rollouts,
        "hinted": "none" if given == "imitation" else given,
    }
    rows = tuple(
        dataclasses.replace(row, role=role.get(row.source, given)) for row in group.responses
    )
    return dataclasses.replace(group, responses=rows)
