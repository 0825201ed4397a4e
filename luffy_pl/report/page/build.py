"""The static page of `luffy-pl report --html`: one file that works without a network.

Answers of models are hostile input. They reach the page as JSON in a data block and leave it
through textContent alone; the Content-Security-Policy allows our script and style by their hashes,
and no request at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from luffy_pl.errors import StorageError
from luffy_pl.report.compare import DIFFERENCE, paired_with_first
from luffy_pl.report.cost import PHASE, TOTALS, Measure, cost_rows
from luffy_pl.report.outcomes import MODEL, read_outcomes
from luffy_pl.report.page import charts
from luffy_pl.report.page.answers import PageAnswers, read_page_answers
from luffy_pl.report.page.cost_figures import cost_figures
from luffy_pl.report.page.embed import content_hash, json_block, visible_value
from luffy_pl.report.page.expert_figures import expert_figures
from luffy_pl.report.page.figures import (
    curves,
    length_histograms,
    temperature_figures,
    timing_figures,
)
from luffy_pl.report.page.token_values import packed
from luffy_pl.report.published import CAVEAT, HEADINGS, compare_published
from luffy_pl.run_dir.read import RunHistory, read_setting

HERE = Path(__file__).parent


def write_page(
    runs: Sequence[RunHistory], folders: Sequence[Path], path: Path, *, over: Measure = PHASE
) -> None:
    """Write the page of `runs`, which were read from `folders`, with its curves over a measure.

    Raises:
        StorageError: `path` cannot be written.
    """
    text = render_page(runs, folders, over)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be written ({error.strerror})", fix="name another file with --html"
        ) from error


def render_page(runs: Sequence[RunHistory], folders: Sequence[Path], over: Measure) -> str:
    """The page as text."""
    by_name = dict(zip(names(folders), folders, strict=True))
    runs = [dataclasses.replace(run, name=name) for run, name in zip(runs, by_name, strict=True)]
    outcomes = [
        (run.name, outcome)
        for run, folder in zip(runs, folders, strict=True)
        for outcome in read_outcomes(folder, run)
    ]
    answers = read_page_answers(by_name)
    # Written by us, in this folder.
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    script = Markup((HERE / "page.js").read_text(encoding="utf-8"))
    return template().render(
        title=", ".join(by_name),
        style=style,
        script=script,
        style_hash=Markup(content_hash(style)),
        script_hash=Markup(content_hash(script)),
        runs=[header(run, folder) for run, folder in zip(runs, folders, strict=True)],
        outcomes=outcomes,
        published=compare_published(outcomes),
        headings=HEADINGS,
        caveat=CAVEAT,
        cost_names=TOTALS,
        costs=cost_rows(runs),
        cost_curves=cost_figures(runs),
        difference_names=DIFFERENCE,
        differences=differences(by_name),
        curves=curves(runs, over),
        expert=expert_figures(runs),
        histograms=length_histograms(answers.lengths),
        temperatures=temperature_figures(outcomes),
        notes=answers.notes,
        timings=timing_figures(runs),
        answers=embedded(answers),
        token_values=[packed(one.values) for one in answers.shown if one.groups],
        frame=charts,
    )


def names(folders: Sequence[Path]) -> list[str]:
    """Names of folders; whole paths where two have the same name."""
    short = [folder.absolute().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def differences(by_name: Mapping[str, Path]) -> list[tuple[str, str, list[list[str]]]]:
    """Names of the first run and of a later one, and the rows of their paired table."""
    of_folder = {folder: name for name, folder in by_name.items()}
    folders = list(by_name.values())
    return [
        (of_folder[folders[0]], of_folder[after], rows)
        for after, rows in paired_with_first(folders).items()
    ]


def header(run: RunHistory, folder: Path) -> Mapping[str, Any]:
    """What a run was."""
    config = folder / "config.yaml"
    return {
        "name": run.name,
        "folder": str(folder),
        "model": read_setting(folder, MODEL),
        "recipe": run.recipe,
        "phases": max(run.metrics, default=None),
        "ablation": run.ablation,
        "config": config.read_text(encoding="utf-8", errors="replace") if config.exists() else None,
    }


def embedded(answers: PageAnswers) -> Markup | None:
    """The data block of the answers; None if there is no answer."""
    shown = [one for one in answers.shown if one.groups]
    if not shown:
        return None
    return json_block([{"label": one.label, "groups": one.groups} for one in shown])


@cache
def template() -> Template:
    """page.html.jinja, which escapes all it is given and refuses names it is not given."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=visible_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent_or_dash
    return environment.get_template("page.html.jinja")


def percent_or_dash(share: float | None) -> str:
    """With one decimal; a dash where there is no number."""
    return "-" if share is None else f"{100 * share:.1f}"
