"""The card of an exported model: how it was made, on what, and how good it is."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luffy_pl.bundled import PREFIX, resolve
from luffy_pl.config.sources import leaves
from luffy_pl.evaluation.results import markdown
from luffy_pl.model.export import Exported
from luffy_pl.report.curves import plot_runs
from luffy_pl.report.outcomes import read_outcomes
from luffy_pl.run_dir.read import read_run

CURVES, CONFIG = "curves.png", "training_config.yaml"
# Say where something ran, not what it was.
UNTOLD = ("run_dir", "resume", "overwrite", "ckpt_path", "config", "summary", "progress", "plugins")


def write_card(exported: Exported, out: Path, defaults: Mapping[str, Any]) -> None:
    """README.md, curves.png and the whole configuration.

    Args:
        defaults: settings of a run that sets none, by dotted name.
    """
    run = read_run(exported.run)
    if run.metrics:
        plot_runs([run], out / CURVES)
    shutil.copyfile(exported.run / "config.yaml", out / CONFIG)
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
    text = environment.get_template("card.md.jinja").render(
        name=run.name,
        base=table_cell(policy),
        hub_base=policy if "/" in policy and not Path(policy).exists() else None,
        recipe=None if run.recipe is None else table_cell(run.recipe),
        phases=exported.checkpoint.phase,
        parameters=exported.num_parameters,
        lora=exported.config["model"]["policy"].get("lora"),
        system_prompt=(exported.config["data"].get("train") or {}).get("system_prompt"),
        outcomes=outcomes,
        curves=CURVES if run.metrics else None,
        settings=list(changed(exported.config, defaults)),
        data=list(data_files(exported.config)),
        plugins=[
            (table_cell(Path(one["path"]).name), table_cell(one["sha256"]))
            for one in exported.config.get("plugins") or ()
        ],
        config=CONFIG,
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def changed(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted names and values of settings that are not the defaults."""
    for name, value in leaves(config):
        if name.split(".")[0] not in UNTOLD and value != defaults.get(name):
            yield name, table_cell(value)


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
        yield role, name, sha256(file) if file.is_file() else "not a file of this machine"


def sha256(file: Path) -> str:
    """SHA-256 of the content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
