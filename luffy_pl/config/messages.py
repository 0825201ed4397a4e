"""What the parser says, as one line: which field, which value, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import pairwise

from luffy_pl.config.other_names import OTHER_NAMES
from luffy_pl.config.sources import read_sources
from luffy_pl.errors import ConfigError

UNKNOWN = re.compile(
    r"unrecognized arguments: -+([\w.-]+)|does not accept option '([\w.]+)'"
    r"|ambiguous option: --([\w.-]+)"
)
NO_VALUE = re.compile(r"argument (?:-\w[\w, ]*/)?--(?P<key>[\w.-]+)[^:]*: expected")
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
NO_SECTION = re.compile(r"Unable to load config|Unexpected config")
LOST = re.compile(r'Key "(?P<key>[\w.]+)" not found in namespace')
UNKNOWN_BELOW = re.compile(r"Option '(?P<name>[\w.]+)' is not accepted")
OURS = re.compile(r"(?P<where>[\w.\[\]]+): (?P<what>.*)\. Fix: (?P<fix>.*)", re.DOTALL)
DENIED = re.compile(r"Importing '(?P<path>[\w.]+)' is not allowed")
WRITTEN = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "a list": "[first, second]",
}
"""How a value of a type is written."""
LISTS = {"tuple": "a list", "list": "a list"}
LITERALS = re.compile(r"Literal\[([^\]]*)\]")
GIVEN = re.compile(r"Got value: (?P<value>\S+)")
MAX_SUGGESTED = 3
UNKNOWN_OPTION, SEE_ALL = "unknown option", "see --help-all for what there is"
BROKEN_FILE = "Problems parsing config: "


def explain(
    message: str, argv: Sequence[str], *, known_keys: Callable[[], list[str]]
) -> ConfigError:
    """A parser's message as a ConfigError; `known_keys` is only asked for suggestions."""
    message = OPTIONAL.sub(r"\g<text>", message)
    if unknown := UNKNOWN.search(message):
        key = next(filter(None, unknown.groups()))
        return ConfigError(key, UNKNOWN_OPTION, fix=suggest(key, known_keys()))
    if unknown := UNKNOWN_IN.search(message):
        key = f"{unknown['section']}.{unknown['name']}"
        return ConfigError(key, UNKNOWN_OPTION, fix=suggest(key, known_keys()))
    if NO_SECTION.search(message) or LOST.search(message):
        return no_section(message, argv, known_keys())
    if missing := NO_VALUE.search(message):
        key = missing["key"]
        return ConfigError(key, "has no value", fix=f"write it behind --{key}, or leave it out")
    if message.startswith(BROKEN_FILE):
        text = " ".join(
            message.removeprefix(BROKEN_FILE).replace('in "<unicode string>", ', "").split()
        )
        return ConfigError(" or ".join(config_files(argv)), text, fix="correct the YAML")
    if wrong := WRONG_VALUE.search(message):
        text = " ".join(wrong["text"].split())
        if below := UNKNOWN_BELOW.search(text):
            key = f"{wrong['key']}.{below['name'].partition('.')[0]}"
            return ConfigError(key, UNKNOWN_OPTION, fix=suggest(key, known_keys()))
        return explain_value(wrong["key"], text)
    text = " ".join(message.split())
    return ConfigError("configuration", text[:300], fix="see luffy-pl COMMAND --help")


def no_section(message: str, argv: Sequence[str], known: Sequence[str]) -> ConfigError:
    """A section that was given a value, or null, in the place of its settings."""
    named, lost = WRONG_VALUE.search(message), LOST.search(message)
    found, value = "configuration", None
    for source in read_sources(argv):
        for key, one in source.values.items():
            is_it = key == named["key"] if named else not lost or lost["key"].startswith(f"{key}.")
            if is_it and any(name.startswith(f"{key}.") for name in known):
                found, value = key, "null" if one is None else one
    inner = [name for name in known if name.startswith(f"{found}.")] or ["data.rollout.num_phases"]
    return ConfigError(
        found,
        "is a section, which has settings and no value",
        value=value,
        fix=f"set what is in it, such as {inner[0]}, or leave it out",
    )


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
        value, kind = wrong["value"].strip(), wrong["type"]
        kind = LISTS.get(kind, kind)
        fix = f"write {WRITTEN.get(kind, 'another value')}"
        if kind in LISTS.values() and "[" not in value and ":" not in value:
            fix = "write []" if value in ("None", "null") else f"write [{value}]"
        return ConfigError(key, f"must be {kind}", value=value, fix=fix)
    if literals := LITERALS.findall(text):
        names = [name.strip(" '\"") for one in literals for name in one.split(",")]
        what = f"must be one of {', '.join(names)}"
        value = given["value"].strip() if (given := GIVEN.search(text)) else None
        return ConfigError(
            key, what, value=value, fix=suggest(value, names) if value else "use one of them"
        )
    fix = "give an existing file" if "not exist" in text else "correct the value"
    return ConfigError(key, text[:300], fix=fix)


def explain_refusal(message: str) -> ConfigError:
    """A value that a class refuses, in its own words where these are ours."""
    message = OPTIONAL.sub(r"\g<text>", message)
    if ours := OURS.fullmatch(message):
        return ConfigError(ours["where"], ours["what"], fix=ours["fix"])
    return ConfigError("configuration", message, fix="correct the value")


def suggest(name: str, known: Sequence[str]) -> str:
    """The setting that was probably meant: what other trainers call so, or the nearest name.

    Of a dotted name, also that whose last part is the same or similar.
    """
    last = name.rsplit(".", 1)[-1].replace("-", "_")
    elsewhere = OTHER_NAMES.get(last.lower())
    similar = get_close_matches(name, known, n=1, cutoff=0.7)
    if similar and "." in name:
        return f"did you mean {similar[0]}?"
    if elsewhere in known:
        return f"did you mean {elsewhere}?"
    same = [key for key in known if key.rsplit(".", 1)[-1] == last]
    by_last = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
    near = [by_last[found] for found in get_close_matches(last, by_last, n=1, cutoff=0.7)]
    if found := (same or similar or near)[:MAX_SUGGESTED]:
        return f"did you mean {' or '.join(found)}?"
    return SEE_ALL


def config_files(argv: Sequence[str]) -> list[str]:
    """The configuration files on a command line."""
    after = [value for flag, value in pairwise(argv) if flag in ("--config", "-c")]
    return after + [arg.removeprefix("--config=") for arg in argv if arg.startswith("--config=")]
