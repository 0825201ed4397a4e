"""The graders by name.

A grader is a function: of `(prompt, text)`, or `(prompt, text, gold)` if it reads the gold, it
grades one response; of `(config)` it returns a Verifier, which grades many at once, in processes of
its own.
"""

from __future__ import annotations

from functools import partial

from luffy_pl.answer.tolerance import Tolerance
from luffy_pl.records import Prompt, Verdict
from luffy_pl.registry import register
from luffy_pl.reward.math_verifier import MathVerifier
from luffy_pl.reward.released.text import RELEASED, Released
from luffy_pl.reward.released.verifier import ReleasedVerifier
from luffy_pl.reward.reward import RewardConfig


@register("grader", "math")
def math(config: RewardConfig) -> MathVerifier:
    """Ours, for mathematics and multiple choice."""
    return MathVerifier(
        think_end=config.think_end,
        forms=config.forms,  # type: ignore[arg-type]  # checked by RewardConfig
        workers=config.workers,
        timeout_s=config.timeout_s,
        tolerance=Tolerance(units=config.units, rounding=config.rounding),
    )


@register("grader", "none")
def none(prompt: Prompt, text: str) -> Verdict:
    """Nothing is right or wrong: terms alone pay, and no row needs a gold answer."""
    return Verdict(None, "ungraded", "none", None, "")


def released(config: RewardConfig, *, grader: Released) -> ReleasedVerifier:
    """One of the released graders."""
    return ReleasedVerifier(grader, workers=config.workers, timeout_s=config.timeout_s)


for name in RELEASED:
    register("grader", name)(partial(released, grader=name))
