"""`luffy-pl data prepare SOURCE --out DIR`: training rows from a public data set, or your own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import get_args

from luffy_pl.config.command_options import parse, sections_parser
from luffy_pl.corpus.prepare.recipe import HUB, Recipe, SourceName
from luffy_pl.corpus.prepare.select import SelectionJob
from luffy_pl.corpus.prepare.shards import begin_shards, fill, outcomes
from luffy_pl.corpus.prepare.write import REPORT, corpus_summary, write_data_report, write_files
from luffy_pl.data.rows import read_rows
from luffy_pl.data.text_lines import DataRow
from luffy_pl.errors import ConfigError, StorageError, first_line
from luffy_pl.process.folder_lock import alone
from luffy_pl.reward.reward import RewardConfig

ROWS_PER_LINE = 4096
# How each source marks its answers, unless options say otherwise.
ANSWERS: dict[str, dict[str, object]] = {
    "gsm8k": {"reward.think_end": None, "reward.forms": ("hash",)},
    "numina": {"reward.think_end": None},
}


def main(argv: Sequence[str]) -> int:
    """Prepare one data set; a killed command goes on where it was."""
    parser = sections_parser(
        "luffy-pl data prepare",
        "Make training rows in the schema of the released LUFFY files, with a report and a card.",
        {"reward": RewardConfig},
    )
    parser.add_class_arguments(Recipe)
    parser.add_argument("source", choices=get_args(SourceName), help="what the rows look like")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, default=1, help="processes that tokenise and grade")
    parser.add_argument(
        "--against", action="append", metavar="FILE", help="test set to keep out; repeatable"
    )
    parser.add_argument("--overwrite", type=bool, default=False, help="replace what is in --out")
    parser.set_defaults(ANSWERS.get(next(iter(argv), ""), {}))
    options = parse(parser, argv, {"reward": "data.reward"}, needed=())
    recipe = Recipe(**{field.name: options[field.name] for field in fields(Recipe)})
    job = SelectionJob(options.source, recipe, options.reward, tuple(options.against or ()))
    folder = Path(options.out)
    path = job.recipe.path or HUB.get(job.source)
    if path is None:
        raise ConfigError("path", "is missing", fix="name a file of your own")
    try:
        with alone(folder, "prepare"):
            report = prepare_corpus(
                folder, job, path, workers=options.workers, overwrite=options.overwrite
            )
    except OSError as error:
        raise StorageError(
            str(folder), f"cannot be written ({first_line(error)})", fix="give another --out"
        ) from error
    sys.stdout.write("\n".join(corpus_summary(report, folder)) + "\n")
    return 0


def prepare_corpus(
    folder: Path, job: SelectionJob, path: str, *, workers: int, overwrite: bool
) -> dict[str, object]:
    """All of it; returns the report."""
    if overwrite:
        shutil.rmtree(folder / "shards", ignore_errors=True)
    elif (folder / REPORT).exists():
        raise StorageError(
            str(folder), "holds a prepared data set", fix="--overwrite, or another --out"
        )
    shards = begin_shards(folder, job)
    files = fill(shards, job, rows_of(job, path), workers=workers, on_progress=say)
    written, named = write_files(folder, outcomes(files), job)
    report = write_data_report(folder, written, named, job, path)
    shutil.rmtree(shards)
    return report


def rows_of(job: SelectionJob, path: str) -> Iterator[tuple[str, DataRow]]:
    """Raw rows, as they arrive."""
    return islice(read_rows(path, split=job.recipe.split, streaming=True), job.recipe.limit)


def say(done: int) -> None:
    """A line of progress now and then."""
    if done % ROWS_PER_LINE == 0:
        sys.stderr.write(f"{done} rows done\n")
