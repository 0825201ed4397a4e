"""Data that is no part of the repository, and how to get it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = "needs data from outside"
HOW_TO_GET_DATA = """\
Skipped for data that is no part of the repository: {count}. Set LUFFY_DATA to a folder that holds
  gsm8k/train.jsonl, test.jsonl: from https://github.com/openai/grade-school-math
  luffy_eval/valid.all.parquet, valid.arc_c.parquet, valid.gpqa.parquet: from data/ of the
    repository that LUFFY's paper names, arXiv 2504.14945"""


@pytest.fixture(scope="session")
def gsm8k():
    """The folder of GSM8K's train.jsonl and test.jsonl, which are not part of the repository."""
    return data_folder("gsm8k", "test.jsonl")


@pytest.fixture(scope="session")
def released_files():
    """The folder of LUFFY's evaluation files, which are not part of the repository."""
    return data_folder("luffy_eval", "valid.all.parquet")


def data_folder(name, file):
    """A folder below that of LUFFY_DATA, or below data/."""
    folder = Path(os.environ.get("LUFFY_DATA", ROOT / "data")) / name
    if not (folder / file).is_file():
        pytest.skip(f"{OUTSIDE}: {name} (see the end)")
    return folder


def pytest_terminal_summary(terminalreporter):
    """How to get what skipped tests miss."""
    skipped = terminalreporter.stats.get("skipped", [])
    if count := sum(OUTSIDE in str(report.longrepr) for report in skipped):
        terminalreporter.section("data from outside")
        terminalreporter.line(HOW_TO_GET_DATA.format(count=count))
