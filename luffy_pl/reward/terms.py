"""The reward of a response: a weighted sum of named terms, apart from whether it is correct.

A term is a function `(Prompt, Response) -> float`. Three are built in; others are registered
by an installed package under the entry point group `luffy_pl.rewards`, so that a configuration
file holds a name and never code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from luffy_pl.errors import ConfigError, VerifierError, first_line
from luffy_pl.records import Prompt, Response
from luffy_pl.reward.extract import extract_answer

ENTRY_POINTS = "luffy_pl.rewards"
BUILT_IN = ("correct", "format", "overlong")
WHERE = "data.reward.terms"

Term = Callable[[Prompt, Response], float]
RewardFunction = Callable[[Prompt, Response], float | None]
"""None: the response could not be graded, so nothing is paid and nothing learned."""


def check_terms(
    weights: Mapping[str, float], *, think_end: str | None, overlong_buffer_share: float | None
) -> None:
    """Refuse names nobody registered, weights that are no numbers, and contradictions."""
    if not weights:
        raise ConfigError(WHERE, "must name a term", value=dict(weights), fix="use {correct: 1.0}")
    known = [*BUILT_IN, *(point.name for point in _registered(weights))]
    for name, weight in weights.items():
        if known.count(name) != 1:
            what = "is registered more than once" if name in known else "is no reward term"
            fix = f"use one of {', '.join(sorted(set(known)))}" + (
                "; others are registered by the entry point group " + ENTRY_POINTS
            )
            raise ConfigError(WHERE, f"{name!r} {what}", fix=fix)
        if not math.isfinite(weight):
            raise ConfigError(f"{WHERE}.{name}", "must be finite", value=weight, fix="use 1.0")
    if "format" in weights and think_end is None:
        raise ConfigError(
            f"{WHERE}.format",
            "needs data.reward.think_end, which is null",
            fix="set it to the end of the thinking, or drop the term",
        )
    where = "data.reward.overlong_buffer_share"
    if "overlong" in weights and overlong_buffer_share is None:
        raise ConfigError(where, "must be set for the term 'overlong'", fix="use 0.2")
    if "overlong" not in weights and overlong_buffer_share is not None:
        raise ConfigError(
            where,
            "does nothing without the term 'overlong'",
            value=overlong_buffer_share,
            fix="add data.reward.terms.overlong, or drop it",
        )
    if overlong_buffer_share is not None and not 0 < overlong_buffer_share <= 1:
        raise ConfigError(
            where, "must be above 0 and at most 1", value=overlong_buffer_share, fix="use 0.2"
        )


def build_reward(
    weights: Mapping[str, float],
    *,
    think_end: str | None,
    overlong_buffer_share: float | None,
    max_response_tokens: int,
) -> RewardFunction:
    """The reward function of a run; settings were checked by `check_terms`."""
    built_in: dict[str, Term] = {
        "correct": correct_value,
        "format": partial(format_value, think_end=think_end or ""),
        "overlong": partial(
            overlong_value,
            limit=max_response_tokens,
            buffer=max_response_tokens * (overlong_buffer_share or 0.0),
        ),
    }
    registered = {point.name: point for point in _registered(weights)}
    terms = {name: built_in.get(name) or _loaded(registered[name]) for name in weights}
    return partial(reward_of, terms=terms, weights=dict(weights))


def reward_of(
    prompt: Prompt, response: Response, *, terms: Mapping[str, Term], weights: Mapping[str, float]
) -> float | None:
    """The weighted sum, None for a response without a grade.

    Raises:
        VerifierError: a term fails or returns no finite number.
    """
    if response.verdict.correct is None:
        return None
    return math.fsum(
        weights[name] * _evaluated(name, term, prompt, response) for name, term in terms.items()
    )


def correctness(prompt: Prompt, response: Response) -> float | None:
    """1 for a right answer, 0 for a wrong one: what evaluation counts."""
    correct = response.verdict.correct
    return None if correct is None else float(correct)


def correct_value(prompt: Prompt, response: Response) -> float:
    """1 for a right answer and 0 for a wrong one, unless the grader has values of its own."""
    paid = response.verdict.reward
    return float(response.verdict.correct is True) if paid is None else paid


def format_value(prompt: Prompt, response: Response, *, think_end: str) -> float:
    """1 for one thinking part, closed once, and a closed box behind it; else 0."""
    closed_once = response.text.count(think_end) == 1
    return float(closed_once and extract_answer(response.text, think_end=think_end).status == "ok")


def overlong_value(prompt: Prompt, response: Response, *, limit: int, buffer: float) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13), from 0 to -1.

    0 up to `limit - buffer` tokens, falling linearly to -1 at `limit`, -1 beyond (an expert
    trace may be longer). Tokens are those of the response, EOS included.
    """
    excess = len(response.token_ids) - (limit - buffer)
    return -min(max(excess / buffer, 0.0), 1.0)


def _registered(weights: Iterable[str]) -> list[EntryPoint]:
    """Entry points of the group; not looked for while every term is built in."""
    return [] if set(weights) <= set(BUILT_IN) else list(entry_points(group=ENTRY_POINTS))


def _loaded(point: EntryPoint) -> Term:
    try:
        term = point.load()
    except Exception as error:  # noqa: BLE001 (a foreign module fails as it likes)
        what, shown = "cannot be imported", f"{type(error).__name__}: {first_line(error)}"
    else:
        if callable(term):
            return term
        what, shown = "is no function", repr(term)
    raise ConfigError(
        f"{WHERE}.{point.name}", f"{point.value} {what}", value=shown, fix="mend that package"
    )


def _evaluated(name: str, term: Term, prompt: Prompt, response: Response) -> float:
    try:
        value = float(term(prompt, response))
    except Exception as error:  # noqa: BLE001 (foreign code fails as it likes)
        what, shown = "fails", f"{type(error).__name__}: {first_line(error)}"
    else:
        if math.isfinite(value):
            return value
        what, shown = "is not finite", repr(value)
    raise VerifierError(
        f"{WHERE}.{name}",
        f"{what} on a response to prompt {prompt.id!r}",
        value=shown,
        fix="mend the function, or drop the term",
    )
