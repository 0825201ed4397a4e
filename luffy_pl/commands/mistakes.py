"""A command line as a person may mistype it: found before anything is imported, with a fix.

Names of settings are known to the parser of a run alone, which says what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from luffy_pl.bundled import CONFIG_FLAGS, PREFIX, bundled_names
from luffy_pl.commands.table import COMMANDS, is_run
from luffy_pl.errors import ConfigError

YAML = (".yaml", ".yml")
DASHES = ("\N{EN DASH}", "\N{EM DASH}", "\N{MINUS SIGN}", "\N{HYPHEN}")
"""What a text processor makes of two hyphens."""
ONE_HYPHEN = re.compile(r"-[A-Za-z_]{2}")
MAX_CANDIDATES = 1000
OTHER_NAMES = {
    "train": "fit", "training": "fit", "run": "fit", "start": "fit", "resume": "fit --resume",
    "continue": "fit --resume", "finetune": "fit", "eval": "validate", "evaluate": "validate",
    "evaluation": "validate", "benchmark": "validate", "generate": "predict", "sample": "predict",
    "infer": "predict", "inference": "predict", "compare": "report", "results": "report",
    "summary": "report", "plot": "report", "show": "view", "viewer": "view", "browse": "view",
    "grid": "sweep", "grade": "verify", "score": "verify", "check": "data check",
    "prepare": "data prepare", "dataset": "data", "convert": "model from-gguf",
    "server": "serve", "new": "init", "create": "init", "talk": "chat",
    "memory": "estimate", "dry_run": "fit --dry_run", "demo": "quickstart",
    "version": "--version", "info": "env", "doctor": "env", "usage": "--help",
}  # fmt: skip
"""What other programs call a thing, and the command that does it here."""


def check_command(words: Sequence[str]) -> None:
    """Refuse what is no command.

    Raises:
        ConfigError: with the command that was meant, as far as that can be seen.
    """
    name = words[0]
    if name in COMMANDS:
        return
    if name.startswith("-"):
        command = next((word for word in words if word in COMMANDS), "COMMAND")
        raise ConfigError(
            name, "stands before the command", fix=f"luffy-pl {command} {name} ..., in this order"
        )
    if Path(name).suffix in YAML or name.startswith(PREFIX):
        raise ConfigError("command", "is missing", fix=f"luffy-pl fit --config {name}")
    raise ConfigError("command", "is unknown", value=name, fix=suggested_command(name))


def suggested_command(name: str) -> str:
    """The command that a word was probably meant as."""
    known = {**{command: command for command in COMMANDS}, **OTHER_NAMES}
    close = get_close_matches(name.lower(), known, n=1)
    return f"did you mean {known[close[0]]}?" if close else f"one of {', '.join(COMMANDS)}"


def check_configs(words: Sequence[str]) -> None:
    """Refuse a `--config` without a file, or whose file is not there.

    Raises:
        ConfigError: with the file of the nearest name, here or in the package.
    """
    for place, word in enumerate(words):
        flag, is_pair, value = word.partition("=")
        if flag not in CONFIG_FLAGS:
            continue
        if not is_pair:
            value = words[place + 1] if place + 1 < len(words) else ""
        if not value or (not is_pair and value.startswith("-")):
            raise ConfigError(flag, "has no value", fix=f"{flag} FILE, or {flag} {PREFIX}NAME")
        if value.startswith(PREFIX):
            continue  # resolving it has the words
        path = Path(value)
        if path.is_dir():
            inside = path / "config.yaml"
            fix = f"{flag} {inside}" if inside.is_file() else f"{flag} FILE.yaml"
            raise ConfigError(flag, "is a folder", value=value, fix=fix)
        # A configuration may also be written out in place of a file.
        if not path.exists() and not {"\n", "{"} & set(value) and ": " not in value:
            raise ConfigError(
                flag, "names a file that does not exist", value=value, fix=nearest_config(path)
            )


def nearest_config(path: Path) -> str:
    """A file that was probably meant: of the same name elsewhere, or of a similar one."""
    bundled = {f"{PREFIX}{name}" for name in bundled_names()}
    known = [*configurations_near(path), *sorted(bundled)]
    stems = {stem_of(one): one for one in reversed(known)}
    close = get_close_matches(str(path), known, n=1, cutoff=0.8)
    same = stems.get(stem_of(str(path)))
    near = get_close_matches(stem_of(str(path)), stems, n=1, cutoff=0.6)
    found = same or next(iter(close), None) or (stems[near[0]] if near else None)
    return f"did you mean {found}?" if found else f"give a YAML file, or {PREFIX}quickstart"


def stem_of(path: str) -> str:
    """`luffy` of conf/luffy.yaml and of bundled:luffy."""
    return Path(path.removeprefix(PREFIX)).stem


def configurations_near(path: Path) -> Iterator[str]:
    """YAML files in the folder that a path names, or else in the nearest one that is there."""
    folder = next(place for place in (path.parent, *path.parent.parents, Path()) if place.is_dir())
    found = 0
    for pattern in ("*.y*ml", "*/*.y*ml", "conf/*.yaml", "conf/*/*.yaml"):
        for file in sorted(folder.glob(pattern)):
            if (found := found + 1) > MAX_CANDIDATES:
                return
            yield str(file)


def check_words(words: Sequence[str]) -> None:
    """Refuse a word of a run that belongs to no option, such as a configuration without its flag.

    Args:
        words: the command, and switches with their values.
    """
    if not is_run(words[0]):
        return
    before = ""
    for word in words[1:]:
        if ONE_HYPHEN.match(word):
            raise ConfigError(word, "begins with one hyphen", fix=f"-{word}")
        is_of_option = before.startswith("-") and "=" not in before
        if not word.startswith("-") and not is_of_option:
            raise misplaced(word)
        before = word


def misplaced(word: str) -> ConfigError:
    """The error for a word that stands alone."""
    is_config = Path(word).suffix in YAML or word.startswith(PREFIX) or Path(word).is_file()
    if is_config:
        return ConfigError(word, "stands alone", fix=f"write --config before it: --config {word}")
    if word[:1] in DASHES:
        return ConfigError(word, "is no option", fix=f"--{word[1:]}, with two hyphens")
    if Path(word).is_dir():
        return ConfigError(word, "stands alone", fix=f"name what it is, as --run_dir {word}")
    if "=" in word:
        return ConfigError(word, "is no option", fix=f"--{word}")
    fix = "write a dotted setting and its value, as --data.rollout.num_phases 20"
    return ConfigError(word, "belongs to no option", fix=fix)
