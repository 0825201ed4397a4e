"""Write docs/configuration.md: every setting of a run, from the docstrings that `--help` shows.

python docs/make/configuration.py; tests/docs/test_configuration.py holds the page up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from luffy_pl.config.kinds import BASES
from luffy_pl.run import settings_table
from luffy_pl.run.settings_table import DescribedSetting, SettingsSection

PAGE = Path(__file__).parents[1] / "configuration.md"
HEAD = """\
# Configuration

Every setting of `luffy-pl fit`, `validate`, `test` and `predict`, with its default. A setting has
one name in files and on the command line: `model: {optimizer: {lr: 1e-6}}` is
`--model.optimizer.lr 1e-6`. Later files win over earlier ones, leaf by leaf, and the command line
wins over files; `--print_config` shows what came out, `--dry_run` what differs from the
defaults below. `null` is off, or what the text says.

`trainer.*` are the arguments of Lightning's
[Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html). Those that this project
decides itself (epochs and steps, limits, validation, clipping, accumulation, loggers) are refused
with the setting that replaces them. `trainer.precision` is `32-true` or `bf16-mixed`. This page is
made from the code by `make docs`.
"""


def page() -> str:
    """The page as text."""
    options, *sections = settings_table.sections()
    parts = [HEAD, "## A run\n\n" + table(options.settings)]
    parts += [section(one) for one in sections if one.path != "trainer"]
    parts += [part for kind in dict.fromkeys(BASES.values()) for part in kinds(kind)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def section(found: SettingsSection) -> str:
    """A heading, what the section is, and its settings."""
    path = found.path.replace("[]", "")
    heading = "#" * min(4, 2 + path.count("."))
    return f"{heading} `{path}`\n\n{summary(found)}\n\n{table(found.settings)}"


def kinds(kind: str) -> Iterator[str]:
    """A heading, and what each built-in of a kind is and takes."""
    yield f"## Kinds of {kind}"
    yield "A section `{kind: name, fields}`. A [plugin](tutorials/plugins.md) adds more."
    for found in settings_table.kinds(kind):
        yield f"#### `{{kind: {found.path}}}`\n\n{summary(found)}"
        if found.settings:
            yield table(found.settings)


def summary(found: SettingsSection) -> str:
    """What it is; a line that begins a list of metrics becomes an item."""
    return re.sub(r"^(?=[\w/.,| -]+: )(?=\w+/)", "- ", found.summary, flags=re.MULTILINE)


def table(settings: Sequence[DescribedSetting]) -> str:
    """Markdown; a default stands in code, so that an empty one can be seen."""
    lines = ["| setting | type | default | what it does |", "|---|---|---|---|"]
    for one in settings:
        default = f"`{one.default}`" if one.default else ""
        cells = (f"`{one.name}`", one.type, default, text(one))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def text(setting: DescribedSetting) -> str:
    """What a setting does, with a link to what is in it."""
    if setting.kind is not None:
        return f"{setting.text} One of the [kinds of {setting.kind}](#kinds-of-{setting.kind})."
    if setting.is_section:
        return f"{setting.text} See [below](#{anchor(setting.path.replace('[]', ''))})."
    return setting.text


def anchor(path: str) -> str:
    """The anchor of a heading in code, as the site makes it."""
    return path.lower().replace(".", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
