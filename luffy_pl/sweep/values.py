"""Values of a YAML file, checked one by one; every mistake is a line that names its key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from luffy_pl.errors import ConfigError

LABEL = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9_+=.-]*")


def load_yaml(path: Path, *, where: str) -> Any:
    """A YAML file as plain values; interpolations stay as they are written."""
    if not path.is_file():
        refuse(where, "no such file", value=str(path), fix="give an existing file")
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())[:200]
        raise ConfigError(str(path), what, fix="correct the YAML") from error


def mapping(value: Any, where: str) -> dict[Any, Any]:
    """A mapping; nothing is an empty one."""
    if value is not None and not isinstance(value, dict):
        refuse(where, "must be a mapping", value=value, fix="see experiments/README.md")
    return value or {}


def items(value: Any, where: str) -> list[Any]:
    """A list; nothing is an empty one."""
    if value is not None and not isinstance(value, list):
        refuse(where, "must be a list", value=value, fix="see experiments/README.md")
    return value or []


def text(value: Any, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        refuse(where, "must be a text", value=value, fix="see experiments/README.md")
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A list of them."""
    return tuple(text(one, where) for one in items(value, where))


def check_label(label: str, where: str) -> None:
    """Labels become folder names and columns."""
    if not LABEL.fullmatch(label):
        refuse(where, "may hold letters, digits and _ + = . - alone", value=label, fix="rename it")


def check_names(names: Iterable[Any], known: tuple[str, ...], where: str) -> None:
    """Every name is known, or the nearest is suggested."""
    for name in names:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            fix = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
            refuse(where, "unknown name", value=name, fix=fix)


def refuse(where: str, what: str, *, fix: str, value: object = None) -> NoReturn:
    """One line about one key."""
    raise ConfigError(where, what, value=value, fix=fix)
