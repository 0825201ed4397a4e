"""`luffy-pl init FOLDER`: three questions, and a configuration, a grid and a README that run."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luffy_pl.bundled import CONF, PREFIX, resolve
from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError, StorageError

MODEL, DATA, METHOD = f"{PREFIX}base", f"{PREFIX}train.jsonl", "luffy"
"""The answers of `--yes`: the small world that comes with the package, which trains in minutes."""
BASELINE = "on_policy"
FROM_TRACES = ("expert_traces_per_group", "sft_phases", "imitation_buffer")
"""Settings of `data.rollout` that read traces where they are above 0."""
SHOWS_TRACES = (("guidance", "what"), ("teacher_prompt", "sees"))
"""Sections of `data.rollout`, and the field of each that is `trace` where it shows one."""
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
FILES = {"config.yaml": "config.yaml.jinja", "grid.yaml": "grid.yaml.jinja",
         "README.md": "README.md.jinja"}  # fmt: skip


@dataclass(frozen=True)
class Project:
    """The three answers.

    Args:
        model: folder, hub name or `bundled:NAME`; a folder is relative to that of the project.
        data: file, folder, hub name or `bundled:NAME`, likewise.
        method: name of a recipe.
    """

    model: str
    data: str
    method: str
    learns_from_traces: bool

    @property
    def baseline(self) -> str:
        """What the grid compares the method with."""
        return METHOD if self.method == BASELINE else BASELINE


def main(argv: Sequence[str]) -> int:
    """Ask, and write the folder."""
    args = parser().parse_args(argv)
    folder: Path = args.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(str(folder), "is not empty", fix="give a new folder")
    known = methods()
    model = ask("Model: a folder, a hub name", args.model, MODEL, args.yes)
    model = located(model, folder, "--model")
    data = located(ask("Data: a file, a hub name", args.data, DATA, args.yes), folder, "--data")
    method = chosen(ask(f"Method: {', '.join(known)}", args.method, METHOD, args.yes), known)
    write(Project(model, data, method, learns_from_traces(known[method])), folder)
    sys.stdout.write(f"written: {folder}\nNext: cd {folder}, and do what README.md says\n")
    return 0


def parser() -> argparse.ArgumentParser:
    """What answers a question beforehand."""
    made = CommandParser(
        prog="luffy-pl init",
        description="Begin a project: a commented configuration, a grid and a README that run.",
    )
    made.add_argument("folder", type=Path, help="new folder")
    made.add_argument("--model", help=f"folder, hub name, or {MODEL}")
    made.add_argument("--data", help=f"file with prompts, answers and traces, hub name, or {DATA}")
    made.add_argument("--method", help="name of a recipe, such as luffy, on_policy or hpt")
    made.add_argument("--yes", action="store_true", help="ask nothing: the defaults of a question")
    return made


def ask(question: str, given: str | None, default: str, is_default_taken: bool) -> str:
    """The answer that was given beforehand, else the default, else what a person types."""
    if given is not None:
        return given
    if is_default_taken:
        return default
    try:
        return input(f"{question} [{default}]: ").strip() or default
    except EOFError:
        raise ConfigError(
            "init", "got no answer", value=question.partition(":")[0],
            fix="give --yes for the defaults, or --model, --data and --method",
        ) from None  # fmt: skip


def methods() -> dict[str, dict[str, Any]]:
    """The recipes that are methods by themselves, and no additions to one, by name."""
    files = sorted((CONF / "recipe").glob("*.yaml"))
    found = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
    return {name: one for name, one in found.items() if not one["recipe"].startswith("+")}


def learns_from_traces(recipe: Mapping[str, Any]) -> bool:
    """Whether a method wants an expert's trace for every prompt."""
    rollout = recipe.get("data", {}).get("rollout", {})
    shown = (rollout.get(section, {}).get(field) for section, field in SHOWS_TRACES)
    return "trace" in shown or any(rollout.get(name) for name in FROM_TRACES)


def chosen(method: str, known: Collection[str]) -> str:
    """The method, if it is one."""
    if method not in known:
        close = get_close_matches(method, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
        raise ConfigError("--method", "is unknown", value=method, fix=hint)
    return method


def located(name: str, folder: Path, flag: str) -> str:
    """The name as it is read in the folder of the project."""
    if name.startswith(PREFIX):
        resolve(name)
        return name
    if Path(name).exists():
        return name if Path(name).is_absolute() else os.path.relpath(name, folder)
    if not HUB_NAME.fullmatch(name) or Path(name).suffix in (".json", ".jsonl", ".parquet", ".csv"):
        raise ConfigError(flag, "is no file here and no hub name", value=name, fix="correct it")
    return name


def write(project: Project, folder: Path) -> None:
    """All files, or one line about why not."""
    # YAML and Markdown: nothing in it is HTML to be escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    is_own_model = not project.model.startswith(PREFIX)
    facts = {"project": project, "name": folder.resolve().name, "is_own_model": is_own_model,
             "is_own_data": not project.data.startswith(PREFIX)}  # fmt: skip
    texts = {
        name: environment.get_template(template).render(facts) for name, template in FILES.items()
    }
    for recipe in (project.method, project.baseline):
        texts[f"{recipe}.yaml"] = (CONF / "recipe" / f"{recipe}.yaml").read_text(encoding="utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            str(folder), f"cannot be written ({error.strerror})", fix="give another folder"
        ) from None
