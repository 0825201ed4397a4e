"""The summary as one HTML file that needs no network and no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from luffy_pl.evaluation.tables import percent
from luffy_pl.sweep.summary import TITLE, GroupResult, name_recipes, shown_interval

PAGE = "summary.html"
CAPTIONS = {
    "figure": "reward, entropy and length by phase; final accuracies",
    "temperature": "pass@k and accuracy against temperature",
    "lengths": "lengths of right and of wrong answers",
}


def write_sweep_page(
    name: str, results: Sequence[GroupResult], figures: Sequence[Path], path: Path
) -> None:
    """Write the page; names are escaped, the figures are inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html.jinja").render(
        name=name,
        title=TITLE,
        results=results,
        has_recipes=name_recipes(results),
        percent=percent,
        interval=shown_interval,
        captions=CAPTIONS,
        figures=[
            (figure.stem, base64.b64encode(figure.read_bytes()).decode()) for figure in figures
        ],
    )
    path.write_text(page, encoding="utf-8")
