"""What is made safe before a library is imported, and what a command line may not hold.

A configuration is input like any other: it may come from somebody else. `limits.py` tells
the parser which classes it may name; here is what no parser looks at.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from luffy_pl.bundled import CONFIG_FLAGS
from luffy_pl.config.data_files import holds_rows
from luffy_pl.errors import ConfigError, StorageError

MAX_CONFIG_BYTES = 1_000_000
MAX_CONFIG_NODES = 100_000
FROM_THE_CALLER = ("plugin", "allow_import")
"""Options that have code of others run; a file cannot set them."""
COMMANDS = ("fit", "validate", "test", "predict")
"""Commands whose settings a configuration file may hold under their name."""

SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,})"
    r"|://[^\s/:@'\"]*:[^\s/@'\"]+@|-----BEGIN [A-Z ]*PRIVATE"
)
"""What a token of a hub, a cloud or a chat looks like, and a URL with a password in it."""
SECRET_NAME = re.compile(r"token|secret|passw|api_?key|credential|private", re.IGNORECASE)


def check_command_line(argv: Sequence[str]) -> None:
    """Refuse arguments, and configuration files among them, that hold what they must not."""
    before = ""
    for number, argument in enumerate(argv, start=1):
        is_pair = argument.startswith("--") and "=" in argument
        flag, _, value = argument.partition("=") if is_pair else (before, "", argument)
        for text in (argument, *_scalars(value)):
            _check_no_secret(f"argument {number}", text)
        check_config_file(value, is_config=flag in CONFIG_FLAGS)
        before = argument


def check_no_secrets(settings: Mapping[str, Any]) -> None:
    """Refuse a parsed setting that is a secret, whatever it was written as and in which file."""
    for key, value in settings.items():
        for text in _texts(value):
            _check_no_secret(key, text)


def check_config_file(
    file: str, seen: frozenset[str] = frozenset(), *, is_config: bool = False
) -> None:
    """Refuse tags, aliases that unfold without end, and secrets; also in files that it names.

    What is missing or cannot be read is the parser's to say. Rows of data are no settings.

    Args:
        is_config: it is read as a configuration, whatever its name ends in.
    """
    path = Path(file)
    may_be_config = is_config or path.suffix in (".yaml", ".yml", ".json")
    if file in seen or not may_be_config or not path.is_file():
        return
    if not is_config and path.suffix == ".json" and holds_rows(path):
        return
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(
            file, "is no configuration", value=f"{path.stat().st_size} bytes", fix="keep below 1 MB"
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        _check_no_secret(f"{file}:{number}", line)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _broken(file, error) from None
    if is_config and root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{file}:1", "holds no settings", fix="write SECTION: {SETTING: VALUE}")
    _count_nodes(root, file, {})
    _check_loads_nothing(root, file)
    for node in _nodes(root):
        _check_said_once(node, file)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            raise ConfigError(
                f"{file}:{node.start_mark.line + 1}",
                "has a tag that would build an object",
                value=node.tag.removeprefix("tag:yaml.org,2002:"),
                fix="write plain values",
            )
        if isinstance(node, yaml.ScalarNode):
            _check_no_secret(f"{file}:{node.start_mark.line + 1}", node.value)
            check_config_file(node.value, seen | {file})
            check_config_file(str(path.parent / node.value), seen | {file})


def check_writable(run_dir: str) -> None:
    """Refuse a run directory that nothing can be written to, before hours are spent.

    Nothing is made yet: where it is missing, its nearest parent is asked.
    """
    if "://" in run_dir or not run_dir.isprintable() or not run_dir.strip():
        raise ConfigError("run_dir", "is no local folder", value=run_dir, fix="give a plain path")
    folder = Path(run_dir).absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise StorageError(
            run_dir, f"cannot be written ({error.strerror})", fix="give another --run_dir"
        ) from None


def check_environment_name(name: str) -> None:
    """Refuse to copy a secret of the environment into the configuration, which files keep."""
    if SECRET_NAME.search(name):
        raise ConfigError(
            f"environment variable {name}",
            "looks like a secret, and the configuration is kept with the run",
            fix="leave it in the environment; the hub reads HF_TOKEN there by itself",
        )


def _check_no_secret(where: str, text: str) -> None:
    if SECRET.search(text):
        raise ConfigError(
            where,
            "holds what looks like a token or password, and the configuration is kept with the run",
            fix="take it out (and renew it if the file was shared); hub tokens belong in HF_TOKEN",
        )


def _scalars(text: str) -> list[str]:
    """The values of a text that is read as YAML, escapes and folded lines resolved."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return []
    return [node.value for node in _nodes(root) if isinstance(node, yaml.ScalarNode)]


def _texts(value: Any) -> Iterator[str]:
    """Every text within a value, keys of mappings included."""
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


def _check_loads_nothing(root: Any, file: str) -> None:
    """Refuse what only the command line may say: which code of others a command runs."""
    for key, value in _pairs(root):
        inner = _pairs(value) if key.value in COMMANDS else []
        for name in (key, *(name for name, _ in inner)):
            if name.value in FROM_THE_CALLER:
                raise ConfigError(
                    f"{file}:{name.start_mark.line + 1}",
                    f"says {name.value}, and no file may have code run",
                    fix=f"take it out; if you trust that code, add --{name.value} to the command",
                )


def _check_said_once(node: Any, file: str) -> None:
    """Refuse a mapping with two values for one name, of which only one would count."""
    seen: set[str] = set()
    for name, _ in _pairs(node):
        if isinstance(name, yaml.ScalarNode) and name.value in seen and name.value != "<<":
            raise ConfigError(
                f"{file}:{name.start_mark.line + 1}",
                "says it a second time",
                value=name.value,
                fix="keep one of the two, or write both parts below it",
            )
        seen.add(str(name.value))


def _pairs(node: Any) -> list[Any]:
    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def _broken(file: str, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = file if mark is None else f"{file}:{mark.line + 1}:{mark.column + 1}"
    what = getattr(error, "problem", None) or "nested too deep"
    return ConfigError(where, f"broken YAML: {what}", fix="correct the YAML")


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _nodes(root: Any) -> list[Any]:
    """Each node once, however often it is an alias."""
    found: dict[int, Any] = {}
    left = [root] if root is not None else []
    while left:
        node = left.pop()
        if id(node) not in found:
            found[id(node)] = node
            left += _children(node)
    return list(found.values())


def _count_nodes(node: Any, file: str, known: dict[int, float]) -> float:
    """Nodes with all aliases written out; a node inside itself has infinitely many."""
    if node is None:
        return 0
    if id(node) not in known:
        known[id(node)] = float("inf")
        known[id(node)] = 1 + sum(_count_nodes(child, file, known) for child in _children(node))
    if known[id(node)] > MAX_CONFIG_NODES:
        raise ConfigError(
            f"{file}:{node.start_mark.line + 1}",
            f"unfolds into more than {MAX_CONFIG_NODES} values",
            fix="write fewer aliases (*name)",
        )
    return known[id(node)]
