"""The one door to grading and rewards: settings in; a verifier and a reward function out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self, get_args

from luffy_pl.errors import ConfigError
from luffy_pl.records import Verdict
from luffy_pl.reward.answer.tolerance import Policy, Units
from luffy_pl.reward.extract import AnswerForm
from luffy_pl.reward.math_verifier import MathVerifier, Progress
from luffy_pl.reward.released.text import THINK_END, Released
from luffy_pl.reward.released.verifier import ReleasedVerifier
from luffy_pl.reward.terms import RewardFunction, build_reward, check_terms

Grader = Literal["math", "luffy_v0", "luffy_v1", "luffy_v2", "luffy_v3", "luffy_v4", "oat"]


class Verifier(Protocol):
    """What grades: ours, or a released one."""

    def grade(
        self, items: Sequence[tuple[str, str]], on_progress: Progress | None = None
    ) -> list[Verdict]:
        """One verdict per (text, gold), in order."""

    def check_golds(self, golds: Sequence[str]) -> list[bool]:
        """Whether answers can be graded against each gold."""

    def close(self) -> None:
        """End the worker processes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True)
class RewardConfig:
    r"""How answers are found, graded and paid; docs/verifier.md explains each policy.

    Args:
        think_end: what ends the thinking; only text behind it counts, and a text without it
            has no answer. null: the whole text counts.
        forms: how an answer is marked, in order of preference: boxed (`\boxed{x}`), hash
            (`#### x`, GSM8K), choice (`ANSWER: C`), final (`Final answer: x`).
        workers: processes that run sympy; none starts while the exact tiers suffice.
        timeout_s: seconds for one answer, then its worker is killed and the answer is wrong.
        grader: math is ours; the others are the released ones, for comparison with published
            numbers. They have rules of their own for forms, units and roundings.
        units: match: 12 cm is not 12 m; ignore: it is. A missing unit is always forgiven.
        rounding: significant digits in which an answer must agree with a gold that is a decimal
            (3.14); null: it must be equal. Other golds are exact in any case.
        terms: the reward, a weighted sum of correct (1 or 0), format (1 if one thinking part is
            closed once and a box follows), overlong (0 to -1 near the response limit), and terms
            that packages register under the entry point group `luffy_pl.rewards`.
        overlong_buffer_share: share of the response limit, at its end, over which overlong falls
            to -1.
    """

    think_end: str | None = THINK_END
    forms: tuple[str, ...] = ("boxed",)
    workers: int = 2
    timeout_s: int = 6
    grader: Grader = "math"
    units: Units = "match"
    rounding: int | None = None
    terms: dict[str, float] = field(default_factory=lambda: {"correct": 1.0})
    overlong_buffer_share: float | None = None

    def __post_init__(self) -> None:
        if self.think_end == "":
            _refuse("think_end", "must not be empty", self.think_end, "null turns it off")
        known = get_args(AnswerForm)
        if not self.forms or set(self.forms) - set(known):
            _refuse("forms", "must be one or more known forms", self.forms, " | ".join(known))
        if not 1 <= self.workers <= 256:
            _refuse("workers", "must be between 1 and 256", self.workers, "2 serve one GPU")
        if not 1 <= self.timeout_s <= 600:
            _refuse("timeout_s", "must be between 1 and 600 seconds", self.timeout_s, "use 6")
        if self.rounding is not None and not 1 <= self.rounding <= 30:
            _refuse("rounding", "must be between 1 and 30 digits", self.rounding, "use 3, or null")
        for name, allowed in (("grader", get_args(Grader)), ("units", get_args(Units))):
            if getattr(self, name) not in allowed:
                _refuse(name, "is unknown", getattr(self, name), " | ".join(allowed))
        self._check_grader()
        check_terms(
            self.terms,
            think_end=self.think_end,
            overlong_buffer_share=self.overlong_buffer_share,
        )

    def _check_grader(self) -> None:
        """A released grader takes no policy of ours."""
        if self.grader == "math":
            return
        splits = self.grader in ("luffy_v0", "luffy_v1", "luffy_v2", "luffy_v3")
        ours = {
            "forms": ("boxed",),
            "units": "match",
            "rounding": None,
            "think_end": THINK_END if splits else self.think_end,
        }
        for name, default in ours.items():
            if getattr(self, name) != default:
                _refuse(
                    name,
                    f"is not for data.reward.grader={self.grader}, which has a rule of its own",
                    getattr(self, name),
                    f"leave it at {default!r}, or use grader math",
                )


def _refuse(name: str, what: str, value: object, fix: str) -> None:
    raise ConfigError(f"data.reward.{name}", what, value=value, fix=fix)


def build_verifier(config: RewardConfig) -> Verifier:
    """The verifier `config` describes; no process starts yet."""
    if config.grader != "math":
        grader: Released = config.grader
        return ReleasedVerifier(grader, workers=config.workers, timeout_s=config.timeout_s)
    return MathVerifier(
        think_end=config.think_end,
        forms=config.forms,  # type: ignore[arg-type]  # checked by RewardConfig
        workers=config.workers,
        timeout_s=config.timeout_s,
        policy=Policy(units=config.units, rounding=config.rounding),
    )


def build_reward_function(config: RewardConfig, *, max_response_tokens: int) -> RewardFunction:
    """The reward `config` describes for responses of at most `max_response_tokens`."""
    return build_reward(
        config.terms,
        think_end=config.think_end,
        overlong_buffer_share=config.overlong_buffer_share,
        max_response_tokens=max_response_tokens,
    )
