"""The static page of `luffy-pl report --html`: one file that works without a network.

Answers of models are hostile input. They reach the page as JSON in data blocks and leave it
through textContent, or as formulas that KaTeX builds element by element; the
Content-Security-Policy allows our scripts and styles by their hashes, and no request at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from luffy_pl.errors import StorageError
from luffy_pl.report.compare import DIFFERENCE, paired_with_first
from luffy_pl.report.cost import MEASURES, PHASE, TOTALS, Measure, cost_rows
from luffy_pl.report.outcomes import MODEL, EvaluationOutcome, read_outcomes
from luffy_pl.report.page.answers import PageAnswers, read_page_answers
from luffy_pl.report.page.embed import content_hash, embedded_file, json_block, visible_value
from luffy_pl.report.page.evaluation_figures import length_figures, temperature_figures
from luffy_pl.report.page.figure import Figure, axes_of
from luffy_pl.report.page.training_figures import expert_figures, time_figures, training_figures
from luffy_pl.report.published import CAVEAT, HEADINGS, compare_published
from luffy_pl.run_dir.read import RunHistory, read_run, read_setting

HERE = Path(__file__).parent
SCRIPTS = ("address.js", "charts.js", "mathematics.js", "tokens.js", "answers.js", "page.js")
"""In the order in which they use each other."""


def write_page(folders: Sequence[Path], path: Path, *, over: Measure = PHASE) -> None:
    """Write the page of the runs in `folders`, with its curves over a measure at first.

    Raises:
        StorageError: `path` cannot be written.
    """
    pieces = page_pieces(folders, over)
    half = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        half.replace(path)
    except OSError as error:
        raise StorageError(
            str(path), f"cannot be written ({error.strerror})", fix="name another file with --html"
        ) from error


def page_pieces(folders: Sequence[Path], over: Measure = PHASE) -> Iterator[str]:
    """The page, piece by piece: it can be larger than memory.

    Raises:
        StorageError: a folder holds no run; before the first piece.
    """
    by_name = dict(zip(names(folders), folders, strict=True))
    runs = [dataclasses.replace(read_run(folder), name=name) for name, folder in by_name.items()]
    outcomes = [
        (run.name, outcome)
        for run, folder in zip(runs, folders, strict=True)
        for outcome in read_outcomes(folder, run)
    ]
    answers = read_page_answers(by_name)
    sections = figure_sections(runs, outcomes, answers)
    axes = axes_of(runs)
    return template().generate(
        title=", ".join(by_name),
        **code(answers),
        runs=[header(run, folder) for run, folder in zip(runs, folders, strict=True)],
        outcomes=outcomes,
        published=compare_published(outcomes),
        headings=HEADINGS,
        caveat=CAVEAT,
        cost_names=TOTALS,
        costs=cost_rows(runs),
        difference_names=DIFFERENCE,
        differences=differences(by_name),
        figures=sections,
        axes=axes,
        drawn=drawn(axes, sections, over),
        notes=answers.notes,
        **answer_blocks(answers),
    )


def names(folders: Sequence[Path]) -> list[str]:
    """Names of folders; whole paths where two have the same name."""
    short = [folder.absolute().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def figure_sections(
    runs: Sequence[RunHistory],
    outcomes: Sequence[tuple[str, EvaluationOutcome]],
    answers: PageAnswers,
) -> dict[str, list[Figure]]:
    """The figures of each section that has them."""
    return {
        "training": training_figures(runs),
        "expert": expert_figures(runs),
        "temperature": temperature_figures(outcomes),
        "lengths": length_figures(answers.lengths),
        "time": time_figures(runs),
    }


def drawn(
    axes: Mapping[str, Any], sections: Mapping[str, Sequence[Figure]], over: Measure
) -> Markup:
    """The data block of the figures, in the order of their sections, and of their axes."""
    [axis] = [key for key, measure in MEASURES.items() if measure == over]
    figures = [one.content() for figures in sections.values() for one in figures]
    return json_block({"axis": axis, "axes": axes, "figures": figures})


def code(answers: PageAnswers) -> dict[str, Any]:
    """Scripts and styles, ours and others', with their hashes; KaTeX only where there is math."""
    others = ["uplot", *(["katex"] if answers.blocks.has_mathematics else [])]
    scripts = [embedded_file(f"third_party/{name}.js") for name in others]
    scripts.append(Markup("\n").join(embedded_file(name) for name in SCRIPTS))
    styles = [embedded_file(f"third_party/{name}.css") for name in others]
    styles.append(embedded_file("page.css"))
    return {
        "scripts": scripts,
        "styles": styles,
        "script_hashes": Markup(" ").join(map(content_hash, scripts)),
        "style_hashes": Markup(" ").join(map(content_hash, styles)),
        "has_mathematics": answers.blocks.has_mathematics,
    }


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


def answer_blocks(answers: PageAnswers) -> dict[str, Any]:
    """The index of the answers (None if there is none), and the blocks of their texts.

    What base64 writes needs no escape.
    """
    shown = answers.in_order()
    order = dict.fromkeys(group["at"][0] for one in shown for group in one.groups)
    return {
        "index": json_block([one.content() for one in shown]) if shown else None,
        "has_values": answers.blocks.have_values,
        "blocks": ((name, Markup(content)) for name, content in answers.blocks.packed(order)),
    }


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
