"""What was found, for the terminal, as JSON, and as a page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from luffy_pl.corpus.check.probability import RARE
from luffy_pl.corpus.check.run import Checked
from luffy_pl.errors import StorageError
from luffy_pl.report.page.embed import content_hash, visible, visible_value

HERE = Path(__file__).parent
SHOWN = 5
"""Defects of one kind on the terminal; all are in the files."""


def write_check(folder: Path, checked: Checked) -> None:
    """check.json and check.html."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(checked.as_dict(), indent=1) + "\n"
        (folder / "check.json").write_text(text, encoding="utf-8")
        (folder / "check.html").write_text(render_check(checked), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            str(folder), f"cannot be written ({error.strerror})", fix="give another --out"
        ) from None


def render_check(checked: Checked) -> str:
    """The page; whatever a row holds is text on it."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=visible_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html.jinja").render(
        checked=checked,
        columns=vars(checked.understood.columns),
        rare=RARE,
        style=style,
        style_hash=Markup(content_hash(style)),
    )


def report_lines(checked: Checked) -> Iterator[str]:
    """For the terminal; special tokens of the prompt stand between ⟦ and ⟧."""
    found = checked.understood.found
    understood = ", ".join(f"{name} from {path}" for name, path in found.items())
    guessed = ", ".join(checked.understood.guessed)
    yield (
        f"columns: schema {checked.understood.schema}; {understood}"
        + (f" (guessed: {guessed}; --source.columns.NAME sets another)" if guessed else "")
    )
    if beyond := ", ".join(checked.understood.beyond):
        yield f"other columns, for rewards and graders alone: {visible(beyond)}"
    if not checked.understood.is_file:
        yield f"first row: {checked.understood.first}"
    yield "first prompt:"
    prompt = "".join(f"⟦{text}⟧" if special else text for text, special in checked.prompt)
    yield from (f"  {visible(line)}" for line in prompt.split("\n"))
    for one in checked.lengths:
        limit = "" if one.limit is None else f"; {one.over} over the limit of {one.limit}"
        yield (
            f"{one.name}s: {one.num}, tokens: mean {one.mean}, median {one.p50}, 95% {one.p95}, "
            f"longest {one.longest}{limit}"
        )
    if (p := checked.probabilities) is not None:
        shown = ", ".join(f"{name}%: {value:.3g}" for name, value in p.percentiles.items())
        yield (
            f"probability of {p.num_tokens} trace tokens: {shown}; {100 * p.rare_share:.1f}% below "
            f"{RARE}; {p.mean_nats:.2f} nats per token"
        )
    yield from (f"note: {visible(note)}" for note in checked.notes)
    for kind, defects in checked.by_kind().items():
        yield f"{kind}: {len(defects)}. Fix: {defects[0].fix}"
        for defect in defects[:SHOWN]:
            yield f"  {visible(defect.where)}: {visible(defect.what)}"
        if len(defects) > SHOWN:
            yield f"  and {len(defects) - SHOWN} more"
    yield (
        f"{checked.num_rows} rows, {checked.num_right} of {checked.num_traces} traces right, "
        f"{len(checked.defects)} {'defect' if len(checked.defects) == 1 else 'defects'}"
    )
