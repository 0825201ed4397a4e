"""What the parser says, as one line: which field, which value, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import pairwise

from luffy_pl.errors import ConfigError

UNKNOWN = re.compile(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'")
UNKNOWN_IN = re.compile(
    r'Parser key "(?P<section>[\w.]+)":.*Option \'(?P<name>\w+)\' is not', re.DOTALL
)
WRONG_VALUE = re.compile(r'Parser key "(?P<key>[\w.\[\]]+)":\s*(?P<text>.*)', re.DOTALL)
CHOICES = re.compile(r"Literal\[(?P<names>[^\]]*)\]. Got value: (?P<value>.*)")
WRONG_TYPE = re.compile(r"Expected a (?:<class ')?(?P<type>[^'>]*)'?>?. Got value: (?P<value>.*)")
# A section that may be null: of the two things it could be, only the section is worth a word.
OPTIONAL = re.compile(
    r"Does not validate against any of the Union subtypes.*?Errors:\s*- (?P<text>.*?)\s+"
    r"- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)
OURS = re.compile(r"(?P<where>[\w.\[\]]+): (?P<what>.*)\. Fix: (?P<fix>.*)", re.DOTALL)
DENIED = re.compile(r"Importing '(?P<path>[\w.]+)' is not allowed")
BROKEN_FILE = "Problems parsing config: "


def explain(
    message: str, argv: Sequence[str], *, known_keys: Callable[[], list[str]]
) -> ConfigError:
    """A parser's message as a ConfigError; `known_keys` is only asked for suggestions."""
    message = OPTIONAL.sub(r"\g<text>", message)
    if unknown := UNKNOWN.search(message):
        key = next(filter(None, unknown.groups()))
        return ConfigError(key, "unknown option", fix=suggest(key, known_keys()))
    if unknown := UNKNOWN_IN.search(message):
        key = f"{unknown['section']}.{unknown['name']}"
        return ConfigError(key, "unknown option", fix=suggest(key, known_keys()))
    if message.startswith(BROKEN_FILE):
        text = " ".join(
            message.removeprefix(BROKEN_FILE).replace('in "<unicode string>", ', "").split()
        )
        return ConfigError(" or ".join(config_files(argv)), text, fix="correct the YAML")
    if wrong := WRONG_VALUE.search(message):
        return explain_value(wrong["key"], " ".join(wrong["text"].split()))
    text = " ".join(message.split())
    return ConfigError("configuration", text[:300], fix="see luffy-pl COMMAND --help")


def explain_value(key: str, text: str) -> ConfigError:
    """A value that is not of the field's type."""
    if denied := DENIED.search(text):
        package = denied["path"].partition(".")[0]
        return ConfigError(
            key,
            "names a class of a package that a configuration may not import",
            value=denied["path"],
            fix=f"if you trust it, add --allow_import {package} to the command",
        )
    if choices := CHOICES.search(text):
        names = [name.strip(" '\"") for name in choices["names"].split(",")]
        value = choices["value"].strip()
        return ConfigError(
            key, f"must be one of {', '.join(names)}", value=value, fix=suggest(value, names)
        )
    if wrong := WRONG_TYPE.search(text):
        value = wrong["value"].strip()
        return ConfigError(key, f"must be {wrong['type']}", value=value, fix="correct the value")
    fix = "give an existing file" if "not exist" in text else "correct the value"
    return ConfigError(key, text[:300], fix=fix)


def explain_refusal(message: str) -> ConfigError:
    """A value that a class refuses, in its own words where these are ours."""
    message = OPTIONAL.sub(r"\g<text>", message)
    if ours := OURS.fullmatch(message):
        return ConfigError(ours["where"], ours["what"], fix=ours["fix"])
    return ConfigError("configuration", message, fix="correct the value")


def suggest(name: str, known: Sequence[str]) -> str:
    """The nearest known name; for a dotted one, also by its last part."""
    close = get_close_matches(name, known, n=1, cutoff=0.7)
    if not close:
        last = name.rsplit(".", 1)[-1]
        by_last = {key.rsplit(".", 1)[-1]: key for key in known}
        close = [by_last[found] for found in get_close_matches(last, by_last, n=1, cutoff=0.7)]
    return f"did you mean {close[0]}?" if close else "see --print_config for what there is"


def config_files(argv: Sequence[str]) -> list[str]:
    """The configuration files on a command line."""
    after = [value for flag, value in pairwise(argv) if flag in ("--config", "-c")]
    return after + [arg.removeprefix("--config=") for arg in argv if arg.startswith("--config=")]
