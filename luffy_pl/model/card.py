"""The card of an exported model: how it was made, on what, and how good it is."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luffy_pl.bundled import PREFIX, resolve
from luffy_pl.config.sources import leaves
from luffy_pl.data.chat import Rendering, with_system_prompt
from luffy_pl.data.tokenizer import load_tokenizer
from luffy_pl.errors import ConfigError
from luffy_pl.evaluation.results import markdown
from luffy_pl.model.export import TRAINING_CONFIG, Exported
from luffy_pl.report.curves import plot_runs
from luffy_pl.report.outcomes import read_outcomes
from luffy_pl.run_dir.read import read_run

CURVES = "curves.png"
# Say where something ran, not what it was.
UNTOLD = ("run_dir", "resume", "overwrite", "ckpt_path", "config", "summary", "progress", "plugins")
BENCHMARKS = "data.benchmarks"
"""Told by the results and the table of data."""
HUB_NAME, LICENSE = re.compile(r"[\w.-]+/[\w.-]+"), re.compile(r"[\w.-]+")
OWN_LICENSE, UNKNOWN_LICENSE = "apache-2.0", "unknown"
QUESTION = "2+3=?"
"""Question of the example: no row of anybody's data."""
MAX_TOKENS = 256


def write_card(
    exported: Exported, out: Path, defaults: Mapping[str, Any], *, license: str | None = None
) -> None:
    """README.md, curves.png and the whole configuration.

    Args:
        defaults: settings of a run that sets none, by dotted name.
        license: identifier of the hub; None takes that of the base's card.
    """
    if license is not None and not LICENSE.fullmatch(license):
        raise ConfigError(
            "--license", "is no identifier of a license", value=license, fix="such as apache-2.0"
        )
    run = read_run(exported.run)
    if run.metrics:
        plot_runs([run], out / CURVES)
    shutil.copyfile(exported.run / "config.yaml", out / TRAINING_CONFIG)
    outcomes = [
        (outcome, markdown(outcome.benchmarks)) for outcome in read_outcomes(exported.run, run)
    ]
    # Markdown for people and YAML for the hub: nothing in it is HTML to be escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    policy = exported.config["model"]["policy"]["path"]
    source = exported.config["data"].get("train") or {}
    messages = with_system_prompt(
        [{"role": "user", "content": QUESTION}], source.get("system_prompt")
    )
    [prompt] = Rendering(load_tokenizer(str(out))).prompts([messages])
    text = environment.get_template("card.md.jinja").render(
        name=run.name,
        base=table_cell(policy),
        license=license or license_of(policy),
        hub_base=policy if on_hub(policy) else None,
        hub_datasets=[name for name in [hub_data_set(source.get("path"))] if name],
        recipe=None if run.recipe is None else table_cell(run.recipe),
        phases=exported.checkpoint.phase,
        parameters=exported.num_parameters,
        lora=exported.config["model"]["policy"].get("lora"),
        system_prompt=source.get("system_prompt"),
        question=QUESTION,
        messages=json.dumps(messages, ensure_ascii=False),
        prompt=prompt,
        max_tokens=MAX_TOKENS,
        outcomes=outcomes,
        curves=CURVES if run.metrics else None,
        settings=list(changed(exported.config, defaults)),
        data=list(data_files(exported.config)),
        plugins=[
            (table_cell(Path(one["path"]).name), table_cell(one["sha256"]))
            for one in exported.config.get("plugins") or ()
        ],
        config=TRAINING_CONFIG,
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def on_hub(name: str) -> bool:
    """Whether a model or data set is named as on the hub, and is no folder here."""
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def hub_data_set(path: str | None) -> str | None:
    """The hub's name of a data set that `name:configuration` names; None for a file."""
    name = (path or "").partition(":")[0]
    return name if on_hub(name) else None


def license_of(policy: str) -> str:
    """What the card of the base says, if there is one here; a base of ours has our own."""
    if policy.startswith(PREFIX):
        return OWN_LICENSE
    card = Path(policy) / "README.md"
    if not card.is_file():
        return UNKNOWN_LICENSE
    _, _, behind = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    try:
        front = yaml.safe_load(behind.partition("\n---")[0])
    except yaml.YAMLError:
        return UNKNOWN_LICENSE
    found = front.get("license") if isinstance(front, dict) else None
    return found if isinstance(found, str) and LICENSE.fullmatch(found) else UNKNOWN_LICENSE


def changed(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted names and values of settings that are not the defaults."""
    for name, value in leaves(config):
        is_told = name.split(".")[0] not in UNTOLD and name != BENCHMARKS
        usual = defaults.get(name)
        if is_told and value != (list(usual) if isinstance(usual, tuple) else usual):
            yield from spread(name, value)


def spread(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A setting as rows of a table: one for each value that a list of sections holds."""
    if not isinstance(value, list):
        yield name, table_cell(value)
    elif not any(isinstance(one, dict) for one in value):
        yield name, ", ".join(map(table_cell, value)) or "none"
    else:
        for number, one in enumerate(value):
            for inner, leaf in leaves(one, f"{name}[{number}]"):
                yield from spread(inner, leaf)


def table_cell(value: Any) -> str:
    """On one line of a table; of a path on this machine only the name."""
    text = str(value)
    if isinstance(value, str) and value.startswith("/"):
        text = Path(value).name
    return " ".join(text.split()).replace("|", "\\|")


def data_files(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Role, name and sha256 of every file that was read."""
    data = config["data"]
    sources = [("training", data.get("train") or {})]
    sources += [(one["name"], one["source"]) for one in data.get("benchmarks") or ()]
    for role, source in sources:
        path = source.get("path")
        if path is None:
            continue
        file = Path(resolve(path))
        name = path if path.startswith(PREFIX) else table_cell(path)
        kind = "a folder" if file.is_dir() else "not a file of this machine"
        yield role, name, sha256(file) if file.is_file() else kind


def sha256(file: Path) -> str:
    """SHA-256 of the content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
