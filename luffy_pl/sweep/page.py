"""The summary as one HTML file that needs no network, with links to the pages of its runs."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luffy_pl.errors import LuffyError
from luffy_pl.evaluation.tables import percent
from luffy_pl.report.page.embed import embedded_file
from luffy_pl.sweep import runner
from luffy_pl.sweep.equal_cost import EqualCost
from luffy_pl.sweep.plan import Cell
from luffy_pl.sweep.summary import TITLE, GroupResult, name_recipes, shown_interval

PAGE = "summary.html"
RUN_PAGE = "report.html"
CAPTIONS = {
    "figure": "reward, entropy and length by phase; final accuracies",
    "temperature": "pass@k and accuracy against temperature",
    "lengths": "lengths of right and of wrong answers",
}
Links = Mapping[str, Sequence[tuple[int, str]]]
"""Seed, and address of the page, of the runs of each group."""


def write_sweep_page(
    name: str,
    results: Sequence[GroupResult],
    figures: Sequence[Path],
    path: Path,
    links: Links | None = None,
    equal_costs: Sequence[EqualCost] = (),
) -> None:
    """Write the page; names are escaped, the figures are inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html.jinja").render(
        name=name,
        title=TITLE,
        style=embedded_file("page.css"),
        results=results,
        links=links or {},
        equal_costs=equal_costs,
        has_recipes=name_recipes(results),
        percent=percent,
        interval=shown_interval,
        captions=CAPTIONS,
        figures=[
            (figure.stem, base64.b64encode(figure.read_bytes()).decode()) for figure in figures
        ],
    )
    path.write_text(page, encoding="utf-8")


def write_run_pages(cells: Sequence[Cell], out: Path) -> Links:
    """Write the page of each run that has none or an old one; returns addresses relative to `out`.

    A run whose page cannot be made gets no link; the others are told about it.
    """
    links: dict[str, list[tuple[int, str]]] = {}
    for cell in cells:
        page = cell.run_dir / RUN_PAGE
        try:
            if not is_newer(page, cell.run_dir / "metrics.jsonl"):
                # Imports torch, which a summary of runs that have their pages does without.
                from luffy_pl.report.page.build import write_page

                write_page([cell.run_dir], page)
        except LuffyError as error:
            runner.say(f"{cell.name}: no {RUN_PAGE}: {error}")
            continue
        address = Path(os.path.relpath(page, out)).as_posix()
        links.setdefault(cell.group, []).append((cell.seed, address))
    return links


def is_newer(page: Path, data: Path) -> bool:
    """Whether the page was written after the data."""
    return page.exists() and data.exists() and page.stat().st_mtime >= data.stat().st_mtime
