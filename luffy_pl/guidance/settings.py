"""What can be set of help that is given to the policy: the block `data.rollout.guidance`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from luffy_pl import registry
from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.objective.schedule import Schedule

WHERE = "data.rollout.guidance"
PLACE = re.compile(r"\{([a-z_]+)\}")
PLACES = ("question", "hint", "verdict", "answer")
"""What a template may name."""
DEFAULT_LEVELS = (0.5,)
WITHOUT_SHARE = ("answer", "own_failure")
"""Hints that are told whole."""


@dataclass(frozen=True)
class PerPrompt:
    """A share for each prompt, which moves with the success of its last group (SAGE-light)."""

    start: float = bounded(0.25, at_least=0, at_most=1)
    """Share of a prompt that was not asked yet."""
    step: float = bounded(0.25, above=0, at_most=1)
    """By how much it moves."""
    most: float = bounded(0.75, above=0, at_most=1)
    """It never exceeds this, and never falls below 0."""
    up_below: float = bounded(0.1, at_least=0, at_most=1)
    """More is shown where fewer of the group's sampled answers were right."""
    down_above: float = bounded(0.35, at_least=0, at_most=1)
    """Less is shown where more of them were right."""

    def __post_init__(self) -> None:
        check_bounds(self)
        for name, low, high in (
            ("start", self.start, "most"),
            ("up_below", self.up_below, "down_above"),
        ):
            if low > getattr(self, high):
                raise ConfigError(
                    f"per_prompt.{name}",
                    f"must be at most per_prompt.{high}={getattr(self, high)}",
                    value=low,
                    fix=f"lower it, or raise {high}",
                )

    def moved(self, share: float, accuracy: float) -> float:
        """The next share after a group with this share of right answers."""
        if accuracy < self.up_below:
            return min(self.most, share + self.step)
        return max(0.0, share - self.step) if accuracy > self.down_above else share


@dataclass(frozen=True)
class ShareConfig:
    """How much a hint tells."""

    levels: tuple[float, ...] | None = bounded(None, above=0, at_most=1)
    """Shares that are tried in turn, as long as no answer is right; a hint that is not cut is
    given again for each. null: [0.5], or those of `per_prompt`."""
    schedule: Schedule | None = None
    """Multiplies every share by a factor that changes over phases; null is 1."""
    per_prompt: PerPrompt | None = None
    """A share of its own for each prompt; null is off."""

    def __post_init__(self) -> None:
        check_bounds(self, f"{WHERE}.share")
        if self.levels == ():
            _refuse("share.levels", "is empty", [], "give one share at least, such as [0.5]")
        if self.levels is not None and self.per_prompt is not None:
            _refuse(
                "share.levels",
                "and share.per_prompt contradict each other: each says how much is told",
                list(self.levels),
                "leave one of them out",
            )

    @property
    def tried(self) -> tuple[float, ...]:
        """The shares of a group's further rounds; 1, a factor, where each prompt has its own."""
        return (1.0,) if self.per_prompt else self.levels or DEFAULT_LEVELS


@dataclass(frozen=True)
class GuidanceConfig:
    """A hint in the prompt."""

    what: str = "trace"
    """trace: the beginning of an expert's answer; answer: the gold; own_failure: a wrong answer of
    the policy's own; column: a text of the row; others come from packages and plugins."""
    column: str | None = None
    """The column that `what: column` reads, and that a plugin may read."""
    when: Literal["always", "all_failed"] = "all_failed"
    """all_failed: groups in which every rollout failed are sampled again, with a hint. always:
    every group is sampled with one from the start; `own_failure` needs a failed answer first."""
    chance: float = bounded(1.0, above=0, at_most=1)
    """Share of these groups that get a hint, drawn for each."""
    share: ShareConfig = field(default_factory=ShareConfig)
    """How much the hint tells."""
    put_back: Literal["hinted", "plain"] = "hinted"
    """hinted: the whole group is sampled and trained under the hinted prompt. plain: some rows are
    sampled under it and stand in the group under the plain prompt, as rows of source `hinted` with
    the engine's log-probabilities under the hint (`off_policy.behaviour: recorded` reads them)."""
    rows: int | None = bounded(None, at_least=1, at_most=1e6)
    """Rows of a group that are sampled under a hint; null: all that the policy samples (plain)."""
    template: str = "{question}\n\nHere is a hint:\n{hint}"
    """The user's message with the hint: {question}, {hint}, {answer} (the gold), and {verdict} (on
    the answer that `own_failure` shows). `data.train.hint_template` goes before it."""
    max_prompt_tokens: int | None = bounded(None, at_least=1, at_most=1e9)
    """A longer hinted prompt is not used, and counted; null: what the engine's window holds."""

    def __post_init__(self) -> None:
        check_bounds(self, WHERE)
        registry.check("guidance", self.what, where=f"{WHERE}.what")
        check_template(self.template, f"{WHERE}.template")
        if self.what == "column" and not self.column:
            _refuse("column", "is not set, and what=column reads it", None, "name a column")
        if self.column and self.what in ("trace", *WITHOUT_SHARE):
            _refuse("column", f"has no effect with what={self.what}", self.column, "leave it out")
        if self.put_back == "hinted" and self.rows is not None:
            _refuse(
                "rows",
                "and put_back=hinted contradict each other: a group has one prompt",
                self.rows,
                "leave it out, or set put_back: plain",
            )
        if len(self.share.tried) > 1 and self.when == "always":
            _refuse(
                "share.levels",
                "has more than one share, and with when=always no second one is tried",
                list(self.share.tried),
                "give one share, or set when: all_failed",
            )

    @property
    def follows(self) -> bool:
        """Whether a hint is given after the rollouts have been seen."""
        return self.when == "all_failed" or self.what == "own_failure"


def check_template(template: str, where: str) -> None:
    """Refuse a template that names something else than it is given, or does not show the hint."""
    named = PLACE.findall(template)
    unknown = [name for name in named if name not in PLACES]
    if unknown:
        raise ConfigError(
            where, "names something unknown", value=f"{{{unknown[0]}}}",
            fix=f"use {', '.join(f'{{{name}}}' for name in PLACES)}",
        )  # fmt: skip
    missing = [name for name in ("question", "hint") if name not in named]
    if missing:
        raise ConfigError(
            where, f"does not show {{{missing[0]}}}", value=template[:60], fix="write it into it"
        )


def filled(template: str, texts: dict[str, str]) -> str:
    """The template with its places filled; what is filled in is not read again."""
    return PLACE.sub(lambda found: texts[found[1]], template)


def _refuse(name: str, what: str, value: object, fix: str) -> NoReturn:
    raise ConfigError(f"{WHERE}.{name}", what, value=value, fix=fix)
