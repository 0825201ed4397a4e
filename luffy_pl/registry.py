"""Names that a configuration may use for code, and where the code behind a name comes from.

A configuration holds a name and never code. A built-in registers itself when its home is imported;
an installed package offers an object under the entry point group `luffy_pl.<kind>`; a file that
whoever types the command names there, `--plugin FILE.py`, registers what it defines.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from luffy_pl.errors import ConfigError, LuffyError, first_line

log = logging.getLogger(__name__)

HOMES = {
    "shaping": "luffy_pl.objective.shaping",
    "gate": "luffy_pl.objective.gate",
    "advantage": "luffy_pl.objective.advantage",
    "loss_term": "luffy_pl.objective.terms",
    "router": "luffy_pl.experience.routing",
    "guidance": "luffy_pl.guidance.hints",
    "teacher_prompt": "luffy_pl.guidance.teacher_prompts",
    "reward": "luffy_pl.reward.terms",
    "grader": "luffy_pl.reward.graders",
    "engine": "luffy_pl.rollout.start",
    "metric": "luffy_pl.evaluation.metrics",
    "logger": "luffy_pl.training.loggers",
}
"""Each kind, and the module that registers its built-ins."""
RENAMED_GROUPS = {"reward": "luffy_pl.rewards"}
"""Entry point groups that go by another name now, and that are read for one more version."""

PLUGIN = "--plugin"
PLUGIN_MODULE = "luffy_pl_plugin_"
"""Beginning of the module name of a plugin; its hash follows."""

Registered = TypeVar("Registered")


@dataclass(frozen=True)
class Plugin:
    """A file of the caller's that has been run, and the hash of what was run."""

    path: str
    sha256: str

    @property
    def module(self) -> str:
        """The name of its module."""
        return PLUGIN_MODULE + self.sha256[:16]


_registered: dict[str, dict[str, Any]] = defaultdict(dict)
_of_plugins: set[tuple[str, str]] = set()
_plugins: dict[str, Plugin] = {}


def register(kind: str, name: str) -> Callable[[Registered], Registered]:
    """Give the decorated class or function a name that configurations can use.

    Raises:
        ConfigError: the kind is unknown, or the name belongs to something else.
    """
    if kind not in HOMES:
        raise ConfigError(
            "plugin", "registers an unknown kind", value=kind, fix=nearest(kind, HOMES)
        )
    caller = sys._getframe(1).f_globals.get("__name__", "")
    if caller.partition(".")[0] != "luffy_pl":
        # The built-ins come first, so that a name of theirs is refused here and not later.
        importlib.import_module(HOMES[kind])

    def keep(found: Registered) -> Registered:
        if _registered[kind].setdefault(name, found) is not found:
            raise ConfigError(
                f"{kind} {name!r}", "is registered more than once", fix="choose another name"
            )
        if caller.startswith(PLUGIN_MODULE):
            _of_plugins.add((kind, name))
        return found

    return keep


def find(kind: str, name: str, *, where: str) -> Any:
    """The class or function that a configuration calls `name`.

    Args:
        where: the dotted field that holds the name, for errors.

    Raises:
        ConfigError: nothing or more than one thing has that name, or its package fails to import.
    """
    found = _found(kind, name, where)
    return _loaded(found, where) if isinstance(found, EntryPoint) else found


def check(kind: str, name: str, *, where: str) -> None:
    """Refuse a name that nothing has; an installed package is not imported yet."""
    _found(kind, name, where)


def known(kind: str) -> list[str]:
    """Every name of a kind, sorted."""
    return sorted({*_built_in(kind), *_entry_points(kind)})


def name_of(kind: str, found: Any) -> str:
    """The name of a built-in, or of what an entry point of the kind has loaded."""
    for name, one in _registered[kind].items():
        if one is found:
            return name
    return next(name for name, point in _entry_points(kind).items() if point.load() is found)


def nearest(name: str, names: Any) -> str:
    """A suggestion for a mistyped name."""
    close = get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"


def take_option(argv: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The arguments without a repeatable option, and its values."""
    rest: list[str] = []
    values: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == option:
            values.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    return rest, values


def load_plugins(files: Iterable[str]) -> None:
    """Run these files, and forget what files that were loaded earlier have registered.

    A file that is named twice is run once.

    Raises:
        ConfigError: a file is missing, fails, or registers nothing; the line is named.
    """
    for kind, name in _of_plugins:
        _registered[kind].pop(name, None)
    _of_plugins.clear()
    for module in _plugins:
        sys.modules.pop(module, None)
    _plugins.clear()
    for file in files:
        content = _content(file)
        plugin = Plugin(file, hashlib.sha256(content).hexdigest())
        if plugin.module not in _plugins:
            _plugins[plugin.module] = plugin
            _run(plugin, content)


def plugins() -> list[Plugin]:
    """What `load_plugins` has loaded."""
    return list(_plugins.values())


def recorded_plugins() -> list[dict[str, str]]:
    """The loaded plugins as a run writes them down: path and hash of each."""
    return [asdict(plugin) for plugin in plugins()]


def check_same_plugins(
    recorded: Iterable[Any] | None, *, where: str, otherwise: str = "start a new --run_dir"
) -> None:
    """Refuse to go on without, or with another version of, the plugins that a run began with.

    Args:
        recorded: what `recorded_plugins` returned then; None where no run has recorded any.
        where: the folder that holds it.
        otherwise: what to do where the file had to be changed.
    """
    for before, now in _compared(recorded, where):
        if now is None:
            raise ConfigError(
                where,
                "began with a plugin that is not given",
                value=before.path,
                fix=f"add {PLUGIN} {before.path}, if you trust that file",
            )
        if now.sha256 != before.sha256:
            raise ConfigError(
                f"{PLUGIN} {now.path}",
                f"has changed since {where} began, with sha256 {before.sha256}",
                value=now.sha256,
                fix=f"give the file as it was, or {otherwise}",
            )


def say_missing_plugins(recorded: Iterable[Any], *, where: str) -> None:
    """One line for each plugin of a run whose configuration is used again, and that is not given.

    Without it a name that it registers is unknown.
    """
    for before, now in _compared(recorded, where):
        if now is None:
            log.warning(
                "%s was written by a run with %s %s, which is not given", where, PLUGIN, before.path
            )


def _compared(recorded: Iterable[Any] | None, where: str) -> Iterator[tuple[Plugin, Plugin | None]]:
    """Each plugin that was recorded, and the loaded one with its content, else with its name."""
    is_list = isinstance(recorded, Iterable) and not isinstance(recorded, str | Mapping)
    entries: Any = () if recorded is None else recorded if is_list else (recorded,)
    for entry in entries:
        try:
            before = Plugin(str(entry["path"]), str(entry["sha256"]))
        except (KeyError, TypeError, IndexError):
            raise ConfigError(
                f"{where}: plugins", "is broken", value=entry, fix="write path and sha256, or []"
            ) from None
        same = [one for one in plugins() if one.sha256 == before.sha256]
        named = [one for one in plugins() if Path(one.path).name == Path(before.path).name]
        yield before, next(iter([*same, *named]), None)


def _built_in(kind: str) -> dict[str, Any]:
    importlib.import_module(HOMES[kind])
    return _registered[kind]


def _found(kind: str, name: str, where: str) -> Any:
    """What has the name; an entry point where that is a package's."""
    registered = _built_in(kind)
    if name in registered and (kind, name) not in _of_plugins:
        return registered[name]
    points = _entry_points(kind)  # refuses a name that a plugin and a package share
    if name in registered:
        return registered[name]
    if name not in points:
        raise ConfigError(where, f"is no {kind}", value=name, fix=nearest(name, known(kind)))
    return points[name]


def _entry_points(kind: str) -> dict[str, EntryPoint]:
    """Entries by name; a name may be taken once and may not be a built-in's."""
    found: dict[str, EntryPoint] = {}
    for group in filter(None, (f"luffy_pl.{kind}", RENAMED_GROUPS.get(kind))):
        for point in entry_points(group=group):
            other = found.setdefault(point.name, point)
            if other.value != point.value or _is_taken(kind, point):
                raise ConfigError(
                    f"entry point {point.name!r} of {group}",
                    f"{point.name!r} is registered more than once",
                    value=point.value,
                    fix="choose another name, or uninstall one of the packages",
                )
    return found


def _is_taken(kind: str, point: EntryPoint) -> bool:
    """Whether something else than what the entry point names is registered already."""
    registered = _built_in(kind).get(point.name)
    return registered is not None and getattr(registered, "__module__", "") != point.module


def _loaded(point: EntryPoint, where: str) -> Any:
    if point.group in RENAMED_GROUPS.values():
        _say_renamed(point.group, point.value)
    try:
        return point.load()
    except Exception as error:  # a foreign module fails as it likes
        raise ConfigError(
            where,
            f"{point.value} cannot be imported",
            value=f"{type(error).__name__}: {first_line(error)}",
            fix="correct that package",
        ) from error


@cache
def _say_renamed(group: str, value: str) -> None:
    kind = next(kind for kind, old in RENAMED_GROUPS.items() if old == group)
    log.warning("entry point group %s (%s) is now called luffy_pl.%s", group, value, kind)


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(
            PLUGIN,
            f"cannot be read ({error.strerror})",
            value=file,
            fix=f"name a Python file: {PLUGIN} FILE.py",
        ) from None


def _run(plugin: Plugin, content: bytes) -> None:
    """Execute what was hashed, as a module of its own."""
    module = ModuleType(plugin.module)
    module.__file__ = plugin.path
    sys.modules[plugin.module] = module
    before = len(_of_plugins)
    try:
        exec(compile(content, plugin.path, "exec"), module.__dict__)
    except LuffyError as error:
        where = f"{_place(plugin.path, error)}: {error.where}"
        raise ConfigError(where, error.what, value=error.value, fix=error.fix) from error
    except (Exception, SystemExit) as error:  # a file of somebody else fails as it likes
        raise ConfigError(
            _place(plugin.path, error),
            "the plugin fails",
            value=f"{type(error).__name__}: {getattr(error, 'msg', None) or first_line(error)}",
            fix="correct the file",
        ) from error
    if len(_of_plugins) == before:
        raise ConfigError(
            f"{plugin.path}:1",
            "registers nothing",
            fix='decorate a function or a class: @register("reward", "my_name")',
        )


def described(error: BaseException) -> str:
    """An error of foreign code: its kind, its words, and where in a plugin it came about."""
    text = f"{type(error).__name__}: {first_line(error)}"
    for plugin in plugins():
        if (place := _place(plugin.path, error)) != plugin.path:
            return f"{text} ({place})"
    return text


def plugin_failure(error: BaseException) -> ConfigError | None:
    """The error as one of the plugin whose code raised it, directly or in a library; else None."""
    ours = str(Path(__file__).parent)
    files = {plugin.path for plugin in plugins()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            notes = "; ".join(getattr(error, "__notes__", ()))
            return ConfigError(
                f"{frame.filename}:{frame.lineno}",
                "the plugin fails",
                value=f"{type(error).__name__}: {first_line(error)}",
                fix=f"correct the file{f' ({notes})' if notes else ''}",
            )
        if frame.filename.startswith(ours):
            return None
    return None


def _place(path: str, error: BaseException) -> str:
    """`file:line` of the plugin where an error came about."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    return f"{path}:{lines[-1] or 1}" if lines else path
