"""Files that come with the package: `bundled:NAME` in a configuration or after `--config`.

They are the small world of the quickstart (`bundled:train.jsonl`), the other worlds
(`bundled:middle/train.jsonl`) and all of conf/ (`bundled:quickstart`, `bundled:recipe/hpt`,
`bundled:template/think.jinja`).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from luffy_pl.errors import ConfigError

PREFIX = "bundled:"
PACKAGE = Path(__file__).parent
WORLD = PACKAGE / "miniature" / "world"
MORE_WORLDS = PACKAGE / "miniature" / "more"
# An installed package holds conf/; in a clone it stands beside the package.
CONF = next((f for f in (PACKAGE / "conf", PACKAGE.parent / "conf") if f.is_dir()), WORLD)
CONFIG_FLAGS = ("--config", "-c")


def resolve(path: str) -> str:
    """The file or folder behind `bundled:NAME`; any other path as it is.

    Raises:
        ConfigError: no such file comes with the package.
    """
    if not path.startswith(PREFIX):
        return path
    name = path.removeprefix(PREFIX)
    for found in (WORLD / name, CONF / f"{name}.yaml", CONF / name, MORE_WORLDS / name):
        if name and found.exists():
            return str(found)
    close = get_close_matches(name, bundled_names(), n=1, cutoff=0.4)
    hint = f"did you mean {PREFIX}{close[0]}?" if close else f"one of {', '.join(bundled_names())}"
    raise ConfigError(path, "no such bundled file", fix=hint)


def short_name(path: str) -> str:
    """`bundled:NAME` of a configuration that comes with the package; any other path as it is."""
    if not Path(path).is_absolute() or not Path(path).is_relative_to(CONF):
        return path
    return PREFIX + Path(path).relative_to(CONF).with_suffix("").as_posix()


def bundled_names() -> list[str]:
    """Names of all bundled files, without `bundled:`."""
    world = [entry.name for entry in WORLD.iterdir()]
    more = [entry.relative_to(MORE_WORLDS).as_posix() for entry in MORE_WORLDS.glob("*/*")]
    configurations = [file.relative_to(CONF).with_suffix("") for file in CONF.rglob("*.yaml")]
    return sorted([*world, *more, *(file.as_posix() for file in configurations)])


def resolve_configs(argv: Sequence[str]) -> list[str]:
    """Arguments, each `--config bundled:NAME` with the file in place of the name."""
    found = list(argv)
    for place, argument in enumerate(found):
        flag, is_pair, value = argument.partition("=")
        if flag in CONFIG_FLAGS and is_pair:
            found[place] = f"{flag}={resolve(value)}"
        elif flag in CONFIG_FLAGS and place + 1 < len(found):
            found[place + 1] = resolve(found[place + 1])
    return found
