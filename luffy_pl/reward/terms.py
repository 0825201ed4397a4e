"""The reward of a response: a weighted sum of named terms, apart from whether it is correct.

A term is a function `(prompt, response) -> float`, or, if it compares the responses of a group,
`(group) -> one float per response`; the rewards of that group say which response is right (1, 0;
None: not graded). A term that needs a setting of the run (`SETTINGS`) has a keyword-only parameter
of that name. Built-in terms register as those of packages and plugins do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from luffy_pl import registry
from luffy_pl.errors import ConfigError
from luffy_pl.records import Group, Prompt, Response
from luffy_pl.registry import register
from luffy_pl.reward.extract import extract_answer
from luffy_pl.reward.functions import call, check_function, failure, parameters, with_settings

WHERE = "data.reward.terms"
SETTINGS = ("think_end", "overlong_buffer_share", "max_response_tokens")
"""Settings that a term may ask for."""
TAKES = {1: "(group)", 2: "(prompt, response)"}

Term = Callable[..., Any]
RewardFunction = Callable[[Prompt, Sequence[Response]], tuple[float | None, ...]]
"""The reward of each response of a group. None: the response could not be graded, so nothing is
paid and nothing learned."""


def check_terms(
    weights: Mapping[str, float], *, think_end: str | None, overlong_buffer_share: float | None
) -> None:
    """Refuse names nobody registered, weights that are no numbers, and contradictions."""
    if not weights:
        raise ConfigError(WHERE, "must name a term", value=dict(weights), fix="use {correct: 1.0}")
    for name, weight in weights.items():
        registry.check("reward", name, where=WHERE)
        if not math.isfinite(weight):
            raise ConfigError(f"{WHERE}.{name}", "must be finite", value=weight, fix="use 1.0")
    if not any(weights.values()):
        raise ConfigError(
            WHERE, "pays every answer 0, so nothing is learned", value=dict(weights),
            fix="use {correct: 1.0}",
        )  # fmt: skip
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


def build_reward(
    weights: Mapping[str, float],
    *,
    think_end: str | None,
    overlong_buffer_share: float | None,
    max_response_tokens: int,
) -> RewardFunction:
    """The reward function of a run; settings were checked by `check_terms`."""
    settings = {
        "think_end": think_end,
        "overlong_buffer_share": overlong_buffer_share,
        "max_response_tokens": max_response_tokens,
    }
    terms = {name: _built(name, settings) for name in weights}
    return partial(rewards_of, terms=terms, weights=dict(weights))


def rewards_of(
    prompt: Prompt,
    responses: Sequence[Response],
    *,
    terms: Mapping[str, Term],
    weights: Mapping[str, float],
) -> tuple[float | None, ...]:
    """The weighted sum of each response of a group, None for a response without a grade.

    Raises:
        VerifierError: a term fails or returns no finite number.
    """
    paid = {name: _values(name, term, prompt, responses) for name, term in terms.items()}
    return tuple(
        None
        if not response.verdict.is_payable
        else math.fsum(weights[name] * values[place] for name, values in paid.items())
        for place, response in enumerate(responses)
    )


def correctness(prompt: Prompt, responses: Sequence[Response]) -> tuple[float | None, ...]:
    """1 for a right answer, 0 for a wrong one: what evaluation counts."""
    verdicts = [response.verdict.correct for response in responses]
    return tuple(None if correct is None else float(correct) for correct in verdicts)


@register("reward", "correct")
def correct_value(prompt: Prompt, response: Response) -> float:
    """1 for a right answer and 0 for a wrong one, unless the grader has values of its own."""
    paid = response.verdict.reward
    return float(response.verdict.correct is True) if paid is None else paid


@register("reward", "format")
def format_value(prompt: Prompt, response: Response, *, think_end: str) -> float:
    """1 for one thinking part, closed once, and a closed box behind it; else 0."""
    closed_once = response.text.count(think_end) == 1
    return float(closed_once and extract_answer(response.text, think_end=think_end).status == "ok")


@register("reward", "overlong")
def overlong_value(
    prompt: Prompt, response: Response, *, max_response_tokens: int, overlong_buffer_share: float
) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13), from 0 to -1.

    0 up to the buffer, a share of the limit at its end, over which it falls linearly to -1; -1
    beyond the limit (an expert trace may be longer). Tokens are those of the response, EOS
    included.
    """
    buffer = max_response_tokens * overlong_buffer_share
    excess = len(response.token_ids) - (max_response_tokens - buffer)
    return -min(max(excess / buffer, 0.0), 1.0)


def _built(name: str, settings: Mapping[str, Any]) -> Term:
    where = f"{WHERE}.{name}"
    found = registry.find("reward", name, where=where)
    check_function(found, takes=TAKES, where=where)
    return with_settings(found, settings, where=where)


def _values(
    name: str, term: Term, prompt: Prompt, responses: Sequence[Response]
) -> Sequence[float]:
    """What a term gives for each response; 0 for one without a grade, which is paid nothing."""
    where = f"{WHERE}.{name}"
    is_paid = [response.verdict.is_payable for response in responses]
    if len(parameters(term)) == 1:
        group = Group(prompt, tuple(responses), correctness(prompt, responses))
        values = call(lambda: list(term(group)), prompt=prompt, where=where)
        if len(values) != len(responses):
            raise failure(
                prompt, f"returns {len(values)} values", value=repr(values)[:80], where=where,
                of=f"{len(responses)} responses",
            )  # fmt: skip
    else:
        values = [
            call(term, prompt, response, prompt=prompt, where=where) if paid else None
            for response, paid in zip(responses, is_paid, strict=True)
        ]
    return [
        _number(value, prompt, where) if paid else 0.0
        for value, paid in zip(values, is_paid, strict=True)
    ]


def _number(value: Any, prompt: Prompt, where: str) -> float:
    number = call(float, value, prompt=prompt, where=where)
    if not math.isfinite(number):
        raise failure(prompt, "is not finite", value=repr(number), where=where)
    return number
