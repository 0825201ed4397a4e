"""`--help-all`, and `--help SECTION`: settings with their types, defaults and descriptions."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from luffy_pl.commands.help import HELP_ALL
from luffy_pl.errors import ConfigError
from luffy_pl.registry import nearest
from luffy_pl.run.settings_table import DescribedSetting, SettingsSection, kinds, sections

WIDTH, INDENT = 100, " " * 6


def help_text(asked: str) -> str:
    """The settings of a section and of what is inside it, of one setting, or all.

    Args:
        asked: a dotted name, or `--help-all`.

    Raises:
        ConfigError: nothing has that name.
    """
    name = asked.strip("-.")
    lines = [
        line
        for section in sections()
        if asked == HELP_ALL or f"{section.path}.".startswith(f"{name}.")
        for line in section_lines(section)
    ]
    if not lines:
        found = [one for section in sections() for one in section.settings if one.path == name]
        lines = [line for setting in found for line in setting_lines(setting)]
    if not lines:
        known = [path for one in sections() for path in (one.path, *paths_in(one))]
        raise ConfigError(
            "--help", "names no section", value=asked, fix=nearest(name, filter(None, known))
        )
    return "\n".join([*lines, ""])


def paths_in(section: SettingsSection) -> list[str]:
    """Names of the settings of a section."""
    return [setting.path for setting in section.settings]


def section_lines(section: SettingsSection) -> Iterator[str]:
    """Its name, what it is, and each setting."""
    yield f"{section.path or 'options'}: {' '.join(section.summary.split())}"
    for setting in section.settings:
        yield from setting_lines(setting)
    yield ""


def setting_lines(setting: DescribedSetting) -> Iterator[str]:
    """Its name, type and default, and what it does; of a kind, also what each one takes."""
    about = ", ".join(
        filter(None, (setting.type, setting.default and f"default {setting.default}"))
    )
    yield f"  --{setting.path}  ({about})"
    yield from textwrap.wrap(setting.text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    for kind in kinds(setting.kind) if setting.kind else ():
        taken = ", ".join(f"{one.name}={one.default}" for one in kind.settings)
        about = f"kind: {kind.path}{f' ({taken})' if taken else ''}: {kind.summary}"
        yield from textwrap.wrap(
            " ".join(about.split()), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT + "  "
        )
