"""A JSON file of rows is data, a single object a section; what YAML could build is never data."""

import json

import pytest

from luffy_pl.config import data_files
from luffy_pl.config.data_files import holds_rows
from luffy_pl.config.guards import check_config_file
from luffy_pl.errors import ConfigError

ROW = json.dumps({"prompt": "1+1=? & *more* !", "answer": "2"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ROW}\n{ROW}\n", True),
        (f"\ufeff{ROW}\r\n{ROW}", True),
        (f"[{ROW}, {ROW}]", True),
        (f"\n[\n  {ROW}\n]", True),
        # Broken rows: the reader of data names the line.
        (f'{ROW}\n{{"prompt": "1+', True),
        (f"{ROW}\nnull\n", True),
        ("[" * 5000, True),
        # Sections.
        ('{"data": {"train": {"path": "x"}}}', False),
        ('{\n  "data": {}\n}\n', False),
        ("", False),
        ("5", False),
        # What JSON does not have and YAML does.
        (f"{ROW}\n--- !!python/object/apply:os.system [x]\n", False),
        ("[&a [x], *a]", False),
        ("[!evil {}]", False),
    ],
)
def test_rows_are_told_from_sections(tmp_path, text, expected):
    file = tmp_path / "file.json"
    file.write_text(text, encoding="utf-8", newline="")
    assert holds_rows(file) is expected


def test_the_beginning_of_a_large_file_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "PEEK_BYTES", len(ROW) + 5)
    file = tmp_path / "file.json"
    file.write_text(f"{ROW}\n{ROW}\n")
    assert holds_rows(file)
    file.write_text(json.dumps(json.loads(ROW), indent=1) * 2)
    assert not holds_rows(file)


def test_rows_may_be_large_and_hold_anything(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text((ROW + "\n") * 50_000)
    assert file.stat().st_size > 1_000_000
    check_config_file(str(file))
    (tmp_path / "run.yaml").write_text("data: {train: {path: rows.json}}\n")
    check_config_file(str(tmp_path / "run.yaml"))
    file.write_text("[!!python/object/apply:os.system [x]]")
    with pytest.raises(ConfigError, match="has a tag"):
        check_config_file(str(tmp_path / "run.yaml"))
