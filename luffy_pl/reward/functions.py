"""Functions of other authors: what they ask for, and one line when they fail."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from luffy_pl.errors import ConfigError, LuffyError, VerifierError
from luffy_pl.records import Prompt
from luffy_pl.registry import described


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of the parameters that the caller fills by their place."""
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in by_place
    ]


def asks_for(function: Callable[..., Any]) -> dict[str, bool]:
    """Settings that a function asks for, its keyword-only parameters; whether it needs them."""
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def with_settings(
    function: Callable[..., Any], settings: Mapping[str, Any], *, where: str
) -> Callable[..., Any]:
    """The function with the settings that it asks for filled in."""
    asked = asks_for(function)
    for name, is_needed in asked.items():
        if is_needed and name not in settings:
            raise ConfigError(
                where,
                "asks for a setting that it cannot have",
                value=name,
                fix=f"ask for one of {', '.join(settings)}",
            )
    filled = {name: settings[name] for name in asked if name in settings}
    return partial(function, **filled) if filled else function


def check_function(found: Any, *, takes: Mapping[int, str], where: str) -> None:
    """Refuse what cannot be called with the parameters of its kind.

    Args:
        takes: by their number, the parameters that are possible.
    """
    if not callable(found):
        raise ConfigError(where, "is no function", value=found, fix="register a function")
    if len(parameters(found)) not in takes:
        raise ConfigError(
            where,
            "takes other parameters than its kind",
            value=f"({', '.join(parameters(found))})",
            fix=f"take {' or '.join(takes.values())}",
        )


def call(function: Callable[..., Any], *arguments: Any, prompt: Prompt, where: str) -> Any:
    """What the function returns.

    Raises:
        VerifierError: it fails.
    """
    try:
        return function(*arguments)
    except LuffyError:  # it says itself what is wrong
        raise
    except Exception as error:  # foreign code fails as it likes
        raise failure(prompt, "fails", value=described(error), where=where) from error


def failure(
    prompt: Prompt, what: str, *, value: str, where: str, of: str = "a response"
) -> VerifierError:
    """One line about a function that could not do its work on a prompt."""
    return VerifierError(
        where,
        f"{what} on {of} to prompt {prompt.id!r}",
        value=value,
        fix="correct the function, or leave it out",
    )
