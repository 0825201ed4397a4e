"""Switches have one spelling for all commands: `--dry_run`, `--dry_run`, `--dry_run=false`."""

from __future__ import annotations

from collections.abc import Container, Sequence

TRUE, FALSE = "true", "false"


def with_values(argv: Sequence[str], switches: Container[str]) -> list[str]:
    """The arguments, each switch as `--name=value`; one that stands alone is true.

    A word behind a switch is its value, unless it is an option or looks like a file.

    Args:
        switches: names of options that are on or off, with their dashes.
    """
    found: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word not in switches:
            found.append(word)
        elif words and is_value(words[0]):
            value = words.pop(0)
            found.append(f"{word}={value.lower() if value.lower() in (TRUE, FALSE) else value}")
        else:
            found.append(f"{word}={TRUE}")
    return found


def is_value(word: str) -> bool:
    """Whether a word behind a switch can be meant as its value."""
    return bool(word) and not word.startswith("-") and not {".", "/", ":"} & set(word)
