"""Chunks of rows, done by several processes, kept as they are done.

out/shards/job.json       what is being made; another job is refused
out/shards/000017.jsonl   the outcomes of one chunk, whole or not there
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from luffy_pl.corpus.prepare.select import SelectionJob, select
from luffy_pl.data.text_lines import DataRow
from luffy_pl.errors import StorageError
from luffy_pl.registry import load_plugins, plugins

ROWS_PER_CHUNK = 256
CountRows = Callable[[int], None]
"""Called with the number of rows that are done."""


def begin_shards(folder: Path, job: SelectionJob) -> Path:
    """The folder of the shards, new or of the same job."""
    shards = folder / "shards"
    file, wanted = (
        shards / "job.json",
        json.dumps(dataclasses.asdict(job), indent=1, sort_keys=True),
    )
    if file.exists() and file.read_text(encoding="utf-8") != wanted:
        raise StorageError(
            str(folder),
            "holds rows that are being prepared with other settings",
            fix="give the same ones to go on, --overwrite to begin again, or another --out",
        )
    shards.mkdir(parents=True, exist_ok=True)
    file.write_text(wanted, encoding="utf-8")
    return shards


def fill(
    shards: Path,
    job: SelectionJob,
    rows: Iterator[tuple[str, DataRow]],
    *,
    workers: int,
    on_progress: CountRows = lambda done: None,
) -> list[Path]:
    """Every shard, in order; those that exist are kept, and their rows only counted."""
    files: list[Path] = []
    todo = _missing(shards, rows, files)
    if workers == 1:
        for chunk, file in todo:
            do_chunk(job, chunk, file)
            on_progress(len(files) * ROWS_PER_CHUNK)
        return files
    # spawn: a forked child would share the locks of threads that it does not have.
    files_of_plugins = [plugin.path for plugin in plugins()]
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=load_plugins,
        initargs=(files_of_plugins,),
    ) as pool:
        running: set[Future[None]] = set()
        for chunk, file in todo:
            running.add(pool.submit(do_chunk, job, chunk, file))
            # Rows are read no faster than they are used.
            if len(running) > 2 * workers:
                running = _settled(running)
                on_progress((len(files) - len(running)) * ROWS_PER_CHUNK)
        while running:
            running = _settled(running)
            on_progress((len(files) - len(running)) * ROWS_PER_CHUNK)
    return files


def do_chunk(job: SelectionJob, chunk: Sequence[tuple[str, DataRow]], file: Path) -> None:
    """One shard: written beside, then renamed."""
    partial = file.with_suffix(".partial")
    lines = (json.dumps(outcome) + "\n" for outcome in select(job, chunk))
    partial.write_text("".join(lines), encoding="ascii")
    partial.replace(file)


def outcomes(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """What became of every row, in order."""
    for file in files:
        try:
            with file.open(encoding="ascii") as lines:
                yield from map(json.loads, lines)
        except ValueError:
            raise StorageError(
                str(file), "is broken", fix="remove it: its rows are prepared again"
            ) from None


def _missing(
    shards: Path, rows: Iterator[tuple[str, DataRow]], files: list[Path]
) -> Iterator[tuple[list[tuple[str, DataRow]], Path]]:
    while chunk := list(itertools.islice(rows, ROWS_PER_CHUNK)):
        file = shards / f"{len(files):06d}.jsonl"
        files.append(file)
        if not file.exists():
            yield chunk, file


def _settled(running: set[Future[None]]) -> set[Future[None]]:
    done, rest = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return rest
