"""Of several ranks that end, the first to fail is the one that is reported."""

import json

import pytest

from luffy_pl.callbacks.error_report import report, report_unless_told
from luffy_pl.errors import ERROR_FILE, DataError, EngineError, leave, tell

CAUSE = DataError("my.jsonl:3", "is wrong", value=1, fix="correct it")
GONE = EngineError("rank 1", "ended with an error", fix="look at what it said last")


@pytest.mark.parametrize(("errors", "kept"), [([GONE], GONE), ([CAUSE, GONE], CAUSE)])
def test_a_rank_that_misses_another_leaves_what_that_one_wrote(tmp_path, errors, kept):
    if CAUSE in errors:
        report(tmp_path, CAUSE)
    report_unless_told(tmp_path, GONE)
    assert json.loads((tmp_path / "error.json").read_text())["what"] == kept.what
    assert kept.what in (tmp_path / "logs" / "traceback.txt").read_text()


@pytest.mark.parametrize("is_first", [True, False])
def test_python_is_told_the_first_error_however_its_process_ends(
    tmp_path, monkeypatch, capfd, is_first
):
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error.json"))
    if not is_first:
        leave(CAUSE)
    tell(GONE)
    kept = json.loads((tmp_path / "error.json").read_text())
    assert kept["kind"] == ("EngineError" if is_first else "DataError")
    assert capfd.readouterr().err == f"luffy-pl: error [5] {GONE}\n"


def test_a_file_that_cannot_be_written_hides_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "no_folder" / "error.json"))
    leave(CAUSE)
