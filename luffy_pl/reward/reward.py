"""The one door to grading and rewards: settings in; a verifier and a reward function out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, get_args

from luffy_pl import registry
from luffy_pl.answer.tolerance import Units
from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.records import Progress, Prompt, Verdict
from luffy_pl.reward.extract import AnswerForm
from luffy_pl.reward.functions import asks_for, check_function, parameters, with_settings
from luffy_pl.reward.released.text import RELEASED, THINK_END
from luffy_pl.reward.row_verifier import RowVerifier
from luffy_pl.reward.terms import RewardFunction, build_reward, check_terms

WHERE = "data.reward.grader"
ASKED_FOR = ("think_end", "forms", "units", "rounding")
"""Settings that a grader of one response may ask for."""
TAKES = {1: "(config)", 2: "(prompt, text)", 3: "(prompt, text, gold)"}


class Verifier(Protocol):
    """What grades answers; `reads_gold` says whether a row has to have a gold answer."""

    @property
    def reads_gold(self) -> bool:
        """Whether it compares with a gold."""

    def grade(
        self, items: Sequence[tuple[str, Prompt | str]], on_progress: Progress | None = None
    ) -> list[Verdict]:
        """One verdict per (text, prompt), in order; a plain gold may stand for the prompt."""

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
            (`#### x`, GSM8K), choice (`ANSWER: C` and its like, which a box without a letter never
            replaces), final (`Final answer: x`).
        workers: processes that run sympy; none starts while the exact tiers suffice.
        timeout_s: seconds for one answer, then its worker is killed and the answer is wrong.
        grader: math is ours; luffy_v0 to luffy_v4 and oat are the released ones, for comparison
            with published numbers, with rules of their own for forms, units and roundings; none
            grades nothing, so that terms alone pay and no row needs a gold; others come from
            packages and plugins.
        units: match: 12 cm is not 12 m; ignore: it is. A missing unit is always forgiven.
        rounding: significant digits in which an answer must agree with a gold that is a decimal
            (3.14); null: it must be equal. Other golds are exact in any case.
        terms: the reward, a weighted sum of correct (1 or 0), format (1 if one thinking part is
            closed once and a box follows), overlong (0 to -1 near the response limit), and terms
            that packages and plugins register as `reward`.
        overlong_buffer_share: share of the response limit, at its end, over which overlong falls
            to -1.
    """

    think_end: str | None = THINK_END
    forms: tuple[str, ...] = ("boxed",)
    workers: int = bounded(2, at_least=1, at_most=256)
    timeout_s: int = bounded(6, at_least=1, at_most=600)
    grader: str = "math"
    units: Units = "match"
    rounding: int | None = bounded(None, at_least=1, at_most=30)
    terms: dict[str, float] = field(default_factory=lambda: {"correct": 1.0})
    overlong_buffer_share: float | None = bounded(None, above=0, at_most=1)

    def __post_init__(self) -> None:
        if self.think_end == "":
            _refuse("think_end", "must not be empty", self.think_end, "null turns it off")
        known = get_args(AnswerForm)
        if not self.forms or set(self.forms) - set(known):
            _refuse("forms", "must be one or more known forms", self.forms, " | ".join(known))
        check_bounds(self, "data.reward")
        if self.units not in get_args(Units):
            _refuse("units", "is unknown", self.units, " | ".join(get_args(Units)))
        self._check_grader()
        check_terms(
            self.terms,
            think_end=self.think_end,
            overlong_buffer_share=self.overlong_buffer_share,
        )

    def _check_grader(self) -> None:
        """A grader that is not `math` takes no policy of it."""
        if self.grader == "none" and "correct" in self.terms:
            _refuse(
                "terms",
                "has correct, which a grader pays, and data.reward.grader is none",
                self.terms,
                "name terms of your own, such as {my_term: 1.0}",
            )
        if self.grader == "math":
            return
        found = registry.find("grader", self.grader, where=WHERE)
        check_function(found, takes=TAKES, where=WHERE)
        ours: dict[str, Any] = {"forms": ("boxed",), "units": "match", "rounding": None}
        if self.grader in RELEASED:
            splits = self.grader in ("luffy_v0", "luffy_v1", "luffy_v2", "luffy_v3")
            ours["think_end"] = THINK_END if splits else self.think_end
        else:
            builds = len(parameters(found)) == 1
            ours = {} if builds else {n: d for n, d in ours.items() if n not in asks_for(found)}
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
    found = registry.find("grader", config.grader, where=WHERE)
    if len(parameters(found)) == 1:
        verifier: Verifier = found(config)
        return verifier
    settings = {name: getattr(config, name) for name in ASKED_FOR}
    return RowVerifier(config.grader, with_settings(found, settings, where=WHERE))


def build_reward_function(config: RewardConfig, *, max_response_tokens: int) -> RewardFunction:
    """The reward `config` describes for responses of at most `max_response_tokens`."""
    return build_reward(
        config.terms,
        think_end=config.think_end,
        overlong_buffer_share=config.overlong_buffer_share,
        max_response_tokens=max_response_tokens,
    )
