import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luffy_pl.data.rows import read_rows
from luffy_pl.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    def write(content, name="rows.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


def refusal(path, **kwargs):
    """The one line a user reads."""
    with pytest.raises(DataError) as caught:
        list(read_rows(path, **kwargs))
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert "\n" not in message
    assert ". Fix: " in message
    return message


def test_json_lines_are_numbered_as_an_editor_numbers_them(write):
    path = write(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": "\xc3\xa9"}')
    assert list(read_rows(path)) == [(f"{path}:1", {"a": 1}), (f"{path}:3", {"a": "é"})]


def test_parquet_rows_are_numbered_across_batches(tmp_path):
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"n": list(range(600)), "m": [[{"x": "y"}]] * 600}), path)
    rows = list(read_rows(path))
    assert rows[599] == (f"{path}:600", {"n": 599, "m": [{"x": "y"}]})
    assert [row["n"] for _, row in rows] == list(range(600))


@pytest.mark.case(12)
@pytest.mark.parametrize("name", ["absent.jsonl", "absent.parquet"])
def test_a_missing_file(tmp_path, name):
    message = refusal(str(tmp_path / name))
    assert message.startswith(f"{tmp_path / name}: cannot be opened (No such file")
    assert "correct path" in message


def test_a_folder_or_an_unknown_ending_is_no_data_set(tmp_path, write):
    assert "holds no file of data, got 'an empty folder'" in refusal(str(tmp_path))
    path = write(b"a,b\n", "rows.txt")
    message = refusal(path)
    assert message.startswith(f"{path}: is no format of data that is read, got '.txt'")
    assert ".jsonl, .json, .ndjson, .csv" in message


@pytest.mark.case(12)
@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file(write, content):
    path = write(content)
    assert refusal(path).startswith(f"{path}: 0 rows. Fix: ")


@pytest.mark.case(12)
def test_an_empty_parquet_file(tmp_path):
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), path)
    assert refusal(path).startswith(f"{path}: 0 rows. Fix: ")


@pytest.mark.case(13)
@pytest.mark.parametrize(
    "line",
    [b'{"a": 1, "b', b"{'a': 1}", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"],
    ids=["cut", "single quotes", "nested too deep", "number too long"],
)
def test_a_broken_line_is_named_with_its_beginning(write, line):
    path = write(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    message = refusal(path)
    assert message.startswith(f"{path}:2: invalid JSON: ")
    assert "line 1" not in message
    assert line[:20].decode() in message.replace("\\'", "'")
    assert len(message) < 500


def test_rows_before_a_broken_line_are_still_read(write):
    rows = read_rows(write(b'{"a": 1}\n{'))
    assert next(rows)[1] == {"a": 1}
    with pytest.raises(DataError):
        next(rows)


def test_a_line_that_is_no_object(write):
    path = write(b'[{"a": 1}]\n')
    message = refusal(path)
    assert message.startswith(f"{path}:1: a JSON list, not an object")
    assert "jq -c '.[]'" in message


@pytest.mark.case(16)
def test_bytes_that_are_not_utf8(write):
    path = write(b'{"a": "x"}\n{"a": "\xff"}\n')
    message = refusal(path)
    assert message.startswith(f"{path}:2: not UTF-8 at byte 8 of the line, got b'\\xff'")
    assert "iconv" in message


@pytest.mark.case(12)
def test_not_parquet_and_cut_parquet(tmp_path, write):
    path = write(b'{"a": 1}\n', "rows.parquet")
    assert refusal(path).startswith(f"{path}: not Parquet, or cut short (")
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), whole)
    path = write(whole.read_bytes()[:-100], "cut.parquet")
    assert "download or write the file again" in refusal(path)


@pytest.mark.case(16)
def test_parquet_text_that_is_not_utf8(tmp_path):
    path = str(tmp_path / "rows.parquet")
    raw = pa.array([b"fine", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"a": raw}), path)
    assert refusal(path).startswith(f"{path}:2: not UTF-8, got b'\\xff'")


def test_a_file_has_no_splits(write):
    path = write(b"{}\n")
    with pytest.raises(ConfigError) as caught:
        list(read_rows(path, split="train"))
    assert caught.value.exit_code == 2
    assert str(caught.value) == f"{path}: a file has no splits, got 'train'. Fix: remove split"


@pytest.fixture
def hub(monkeypatch):
    """`datasets` with one data set in it, and a list of what was asked for."""
    asked = []

    class DatasetsError(Exception):
        pass

    def load_dataset(name, configuration, *, split, streaming):
        asked.append((name, configuration, split))
        if name == "org/broken":
            raise DatasetsError("cannot generate")
        if name != "org/set":
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist\non the Hub")
        splits = {"train": [{"a": 1}, {"a": 2}], "test": [{"a": 3}], "empty": []}
        return splits[split] if split else splits

    fake = SimpleNamespace(
        load_dataset=load_dataset, exceptions=SimpleNamespace(DatasetsError=DatasetsError)
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return asked


def test_a_hub_data_set(hub):
    rows = list(read_rows("org/set:main", split="train"))
    assert hub == [("org/set", "main", "train")]
    assert rows == [("org/set:main:train:1", {"a": 1}), ("org/set:main:train:2", {"a": 2})]


@pytest.mark.case(46)
def test_a_hub_data_set_that_does_not_load(hub):
    message = refusal("org/absent", split="train")
    assert message.startswith("org/absent: split train could not be loaded from the hub (Dataset")
    assert "network" in message
    assert "(cannot generate)" in refusal("org/broken", split="train")
    assert refusal("org/set", split="empty").startswith("org/set: split empty has 0 rows")


def test_a_hub_data_set_without_split_takes_the_usual_one(hub):
    assert [where for where, _ in read_rows("org/set")] == ["org/set:train:1", "org/set:train:2"]
    assert list(read_rows("org/set", usual_split="test")) == [("org/set:test:1", {"a": 3})]


def test_datasets_is_imported_for_the_hub_only(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(list(read_rows(write(json.dumps({"a": 1}).encode())))) == 1
