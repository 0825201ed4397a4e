"""Write docs/configuration.md: every setting of a run, from the docstrings that `--help` shows.

python docs/make/configuration.py; tests/docs/test_configuration.py holds the page up to date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstring_parser import parse_from_object

from luffy_pl.config.kinds import BASES, as_fields
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.registry import find, known
from luffy_pl.run.command import LuffyCLI
from luffy_pl.run.sections import LINKS, SECTIONS
from luffy_pl.training.module import LuffyModule

PAGE = Path(__file__).parents[1] / "configuration.md"
HEAD = """\
# Configuration

Every setting of `luffy-pl fit`, `validate`, `test` and `predict`, with its default. A setting has
one name in files and on the command line: `model: {optimizer: {lr: 1e-6}}` is
`--model.optimizer.lr 1e-6`. Later files win over earlier ones, leaf by leaf, and the command line
wins over files; `--print_config` shows what came out, `--dry_run true` what differs from the
defaults below. `null` is off, or what the text says.

`trainer.*` are the arguments of Lightning's
[Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html). Those that this project
decides itself (epochs and steps, limits, validation, clipping, accumulation, loggers) are refused
with the setting that replaces them. `trainer.precision` is `32-true` or `bf16-mixed`. This page is
made from the code by `make docs`.
"""
LINKED = {target for _, target in LINKS}


class Options:
    """Collects the options that `LuffyCLI` adds beside the sections."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, Any]]] = []

    def add_argument(self, name: str, **settings: Any) -> None:
        """Keep it."""
        self.found.append((name.removeprefix("--"), settings))

    def add_lightning_class_args(self, callback: type, name: str) -> None:
        """Sections have tables of their own."""

    def link_arguments(self, *args: Any, **kwargs: Any) -> None:
        """Linked settings are nobody's to set."""


def page() -> str:
    """The page as text."""
    sections = {"model": LuffyModule, "data": LuffyDataModule, **SECTIONS}
    parts = [HEAD, "## A run\n\n" + table(run_options())]
    parts += [part for name, cls in sections.items() for part in section(name, cls)]
    parts += [part for kind in dict.fromkeys(BASES.values()) for part in kinds(kind)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def run_options() -> Iterator[tuple[str, str, str, str]]:
    """Options without a section."""
    options = Options()
    LuffyCLI.add_arguments_to_parser(None, options)
    options.add_argument("--seed_everything", type=int, default=0, help="key of every draw")
    options.add_argument(
        "--ckpt_path", type=str | None, default=None, help="checkpoint to start from or to evaluate"
    )
    for name, settings in options.found:
        yield name, type_name(settings["type"]), shown(settings["default"]), settings["help"]


def section(name: str, cls: type, given: Any = None) -> Iterator[str]:
    """A heading, what the class is, its settings, and a section for each nested record.

    `given` is the record that the setting has by default, whose values may not be the class's.
    """
    rows, nested = [], []
    described = descriptions(cls)
    for field, kind, default in fields(cls):
        path = f"{name}.{field}"
        if path in LINKED:
            continue
        text = " ".join((described.get(field) or "").split())
        if base := next((base for base in BASES if base in (kind, *typing.get_args(kind))), None):
            text += f" One of the [kinds of {BASES[base]}](#kinds-of-{BASES[base]})."
            default = as_fields(default) if isinstance(default, base) else default
        elif inner := record_in(kind):
            text += f" See [below](#{anchor(path)})."
            nested.append((path, inner, default if isinstance(default, inner) else None))
        default = getattr(given, field, default)
        rows.append((field, type_name(kind), shown(default), text))
    if rows:
        yield f"{'#' * min(4, 2 + name.count('.'))} `{name}`\n\n{summary(cls)}\n\n{table(rows)}"
    for path, inner, default in nested:
        yield from section(path, inner, default)


def kinds(kind: str) -> Iterator[str]:
    """A heading, and what each built-in of a kind is and takes."""
    yield f"## Kinds of {kind}"
    yield "A section `{kind: name, fields}`. A [plugin](tutorials/plugins.md) adds more."
    for name in known(kind):
        cls = find(kind, name, where=kind)
        described = descriptions(cls)
        rows = [
            (field, type_name(of), shown(default), " ".join((described.get(field) or "").split()))
            for field, of, default in fields(cls)
        ]
        yield f"#### `{{kind: {name}}}`\n\n{summary(cls)}"
        if rows:
            yield table(rows)


def descriptions(cls: type) -> dict[str, str | None]:
    """What the docstrings of a class and its bases say of each field."""
    bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("luffy_pl")]
    return {
        one.arg_name: one.description for base in bases for one in parse_from_object(base).params
    }


def fields(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of what a record or a class is made with."""
    if dataclasses.is_dataclass(cls):
        types_of = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            made = field.default_factory is not dataclasses.MISSING
            default = field.default_factory() if made else field.default
            yield field.name, types_of[field.name], default
        return
    types_of = typing.get_type_hints(cls.__init__)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name != "self":
            yield name, types_of[name], parameter.default


def record_in(kind: Any) -> type | None:
    """The record that a setting is, may be, or is a sequence of."""
    if dataclasses.is_dataclass(kind):
        return kind
    return next(filter(None, map(record_in, typing.get_args(kind))), None)


def summary(cls: type) -> str:
    """The docstring up to its arguments; a line that begins a list of metrics becomes an item."""
    text = inspect.getdoc(cls) or ""
    text = re.split(r"\n(?:Args|Raises):\n", text)[0].strip()
    return re.sub(r"^(?=[\w/.,| -]+: )(?=\w+/)", "- ", text, flags=re.MULTILINE)


def type_name(kind: Any) -> str:
    """As `--help` names it, shorter."""
    if kind is type(None) or kind is None:
        return "null"
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, typing.get_args(kind)))
    if arguments := [one for one in typing.get_args(kind) if one is not Ellipsis]:
        return (
            f"{kind.__origin__.__name__} of {', '.join(dict.fromkeys(map(type_name, arguments)))}"
        )
    if dataclasses.is_dataclass(kind) or kind in BASES:
        return "section"
    return getattr(kind, "__name__", str(kind))


def shown(default: Any) -> str:
    """As YAML has it."""
    if default in (inspect.Parameter.empty, dataclasses.MISSING):
        return "required"
    if dataclasses.is_dataclass(default):
        return ""
    if default is None:
        return "null"
    if isinstance(default, dict) and "kind" in default:
        return f"{{{', '.join(f'{name}: {shown(value)}' for name, value in default.items())}}}"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(shown, default))}]"
    return str(default)


def table(rows: Any) -> str:
    """Markdown; a default stands in code, so that an empty one can be seen."""
    lines = ["| setting | type | default | what it does |", "|---|---|---|---|"]
    for name, kind, default, text in rows:
        cells = (f"`{name}`", kind, f"`{default}`" if default else "", text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def anchor(path: str) -> str:
    """The anchor of a heading in code, as the site makes it."""
    return path.lower().replace(".", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
