"""The order of configuration files: a base first, then one recipe, then what changes it.

A base names the model and the training data; conf/luffy.yaml and conf/quickstart.yaml are two. A
recipe says so by `recipe: NAME` and is written to be laid over LUFFY, which is what the bases are.
An add-on goes with any recipe, and its name begins with a plus.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from luffy_pl.bundled import CONFIG_FLAGS, PREFIX
from luffy_pl.config.sources import COMMAND_LINE, SettingSource, options
from luffy_pl.errors import ConfigError

RECIPE, ADD_ON = "recipe", "+"
OF_A_BASE = ("model.policy.path", "data.train.path")
OF_AN_ABLATION = ("ablation.leaf", "ablation.value")
BASE_RECIPE = "luffy"
"""The method of a base, over which every recipe may be laid."""
NAME = re.compile(r"[\w.=-]+(\+[\w.=-]+)*")


def check_order(sources: Sequence[SettingSource]) -> None:
    """Refuse files whose settings would mix, or be lost, without a word.

    Raises:
        ConfigError: with the order that works.
    """
    files = [source for source in sources if source.name != COMMAND_LINE]
    check_base_first(files)
    check_one_recipe(files)
    check_one_ablation(files)
    check_add_ons(files)


def check_base_first(files: Sequence[SettingSource]) -> None:
    """Refuse a base that overrides what an overlay before it sets.

    Where a base came before both, the later one is an overlay too: it exchanges model and data.
    """
    number = next((number for number, file in enumerate(files) if is_base(file)), 0)
    base = files[number] if files else None
    for overlay in files[:number]:
        assert base is not None
        for key, value in overlay.values.items():
            if base.values.get(key, value) != value:
                raise ConfigError(
                    key,
                    f"of {overlay.name} is overridden by {base.name}, which comes after it",
                    value=value,
                    fix=f"put the base first: --config {base.name} --config {overlay.name}",
                )


def check_one_recipe(files: Sequence[SettingSource]) -> None:
    """Refuse a recipe over anything but LUFFY of a base, or itself."""
    for number, file in enumerate(files):
        name, before = file.values.get(RECIPE), files[:number]
        below = recipe_name(before)
        if not isinstance(name, str) or name.startswith(ADD_ON) or below is None:
            continue
        is_bare = below == BASE_RECIPE and all(is_base(one) for one in before if method(one))
        if is_bare or below.split(ADD_ON)[0] == name.split(ADD_ON)[0]:
            continue
        last = next(one for one in reversed(before) if method(one))
        first = next((one.name for one in before if is_base(one)), "conf/quickstart.yaml")
        if first == last.name:
            first = "conf/luffy.yaml"
        raise ConfigError(
            RECIPE,
            f"of {file.name} would be laid over {below} of {last.name}, and the settings of both "
            "would mix",
            value=name,
            fix=f"choose one recipe, and add-ons after it: --config {first} --config {file.name}",
        )


def check_one_ablation(files: Sequence[SettingSource]) -> None:
    """Refuse a second ablation, under which the first one would have no effect."""
    changes = [(file, [file.values.get(key) for key in OF_AN_ABLATION]) for file in files]
    named = [(file, change) for file, change in changes if change[0] is not None]
    for (before, first), (after, second) in itertools.pairwise(named):
        if first != second:
            raise ConfigError(
                "ablation",
                f"of {before.name} is replaced by that of {after.name}: a run has one ablation",
                value=second[0],
                fix=f"choose one, and set the other leaf itself: --{first[0]}={first[1]}",
            )


def check_add_ons(files: Sequence[SettingSource]) -> None:
    """Refuse an add-on that overrides another one, which the name of the recipe would keep."""
    seen: dict[str, SettingSource] = {}
    for file in files:
        if not str(method(file) or "").startswith(ADD_ON):
            continue
        for key, value in file.values.items():
            other = seen.setdefault(key, file)
            if key != RECIPE and other.values[key] != value:
                raise ConfigError(
                    key,
                    f"of the add-on {other.name} is overridden by the add-on {file.name}",
                    value=value,
                    fix="choose one of the two add-ons",
                )


def method(file: SettingSource) -> str | None:
    """What a file says of the recipe."""
    name = file.values.get(RECIPE)
    return None if name is None else str(name)


def is_base(file: SettingSource) -> bool:
    """Whether a file is a run of its own."""
    return all(file.values.get(key) is not None for key in OF_A_BASE)


def may_describe_data(source: SettingSource) -> bool:
    """Whether it is a base, or a file that goes with any recipe."""
    return is_base(source) or (source.name != COMMAND_LINE and RECIPE not in source.values)


def base_file(sources: Sequence[SettingSource]) -> str | None:
    """The file that a run changes: the first base, else the first file; None without files."""
    files = [source for source in sources if source.name != COMMAND_LINE]
    return next((file.name for file in [*filter(is_base, files), *files]), None)


def recipe_name(sources: Sequence[SettingSource]) -> str | None:
    """The name that all sources give: `dapo`, or `dapo+kl_in_loss` with an add-on.

    Raises:
        ConfigError: a name holds other characters than letters, digits and _ . = -.
    """
    found: str | None = None
    for source in sources:
        if RECIPE not in source.values:
            continue
        name = source.values[RECIPE]
        if name is not None and not NAME.fullmatch(str(name).removeprefix(ADD_ON)):
            raise ConfigError(
                RECIPE, "may hold letters, digits and _ . = - alone", value=name, fix="rename it"
            )
        if name is None or not str(name).startswith(ADD_ON):
            # A run that is laid over again by its recipe keeps its add-ons.
            if name is None or found is None or found.split(ADD_ON)[0] != name:
                found = None if name is None else str(name)
            continue
        parts = found.split(ADD_ON) if found else []
        added = [part for part in str(name).split(ADD_ON)[1:] if part not in parts]
        found = ADD_ON.join([*parts, *added])
    return found


def a_base() -> str:
    """A base that is there, from where the command is started."""
    path = Path("conf", "quickstart.yaml")
    return str(path) if path.is_file() else f"{PREFIX}quickstart"


def check_has_base(args: Sequence[str], sources: Sequence[SettingSource]) -> None:
    """Refuse settings that name no model, unless only help is asked for."""
    asks_help = any(arg == "-h" or arg.partition("=")[0].endswith("help") for arg in args)
    key = OF_A_BASE[0]
    if asks_help or any(name.endswith(key) for source in sources for name in source.values):
        return
    files = [value for flag, value in options(args) if flag in CONFIG_FLAGS]
    if not all(Path(file).is_file() for file in files):
        return  # the parser has the words for it
    overlays = "".join(f" --config {file}" for file in files)
    raise ConfigError(
        "--config",
        f"names no model ({key}): these files are overlays" if files else "is missing",
        value=", ".join(files) or None,
        fix=f"begin with a base: --config {a_base()}{overlays}",
    )
