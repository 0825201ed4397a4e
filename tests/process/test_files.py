"""A disk that is full for a while loses nothing; one that stays full is an error."""

import errno
import os
import resource

import pytest

from luffy_pl.errors import StorageError
from luffy_pl.process import files
from luffy_pl.process.files import (
    all_written,
    append_to_file,
    check_all_written,
    storage_error,
    write_file,
)


@pytest.fixture
def full(monkeypatch):
    """Say of which files the disk takes no byte more."""
    refused = set()
    append, replace = files._append, files._replace

    def unless_full(inner):
        def attempt(path, content):
            if path.name in refused:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            inner(path, content)

        return attempt

    monkeypatch.setattr(files, "_append", unless_full(append))
    monkeypatch.setattr(files, "_replace", unless_full(replace))
    yield refused
    files._forget()


def test_what_waited_is_written_in_order_when_there_is_room(tmp_path, full, caplog):
    lines, state = tmp_path / "a" / "lines", tmp_path / "state"
    assert append_to_file(lines, "1\n")
    full |= {"lines", "state"}
    assert not append_to_file(lines, "2\n")
    assert not write_file(state, "old")
    assert not append_to_file(lines, "3\n")
    assert not write_file(state, "new")
    assert not append_to_file(state, "er")
    assert write_file(tmp_path / "other", "taken")
    assert (lines.read_text(), state.exists()) == ("1\n", False)
    full.clear()
    assert append_to_file(lines, "4\n")
    assert (lines.read_text(), state.read_text()) == ("1\n2\n3\n4\n", "newer")
    said = [record.message for record in caplog.records]
    assert len(said) == 2, said
    assert f"{lines} cannot be written" in said[0]
    assert "No space left on device" in said[0]
    assert said[1] == "the disk takes files again: all 2 that waited are written"
    check_all_written()


def test_what_still_waits_at_the_end_is_an_error_that_names_it(tmp_path, full, caplog):
    full |= {"lines", "state"}

    @all_written()
    def command(error=None):
        append_to_file(tmp_path / "lines", "1\n")
        write_file(tmp_path / "state", "2")
        if error is not None:
            raise error

    with pytest.raises(StorageError, match=r"lines and 1 other files: .*\(No space left"):
        command()
    # Next to another error it is said, and forgotten in both cases.
    with pytest.raises(KeyError):
        command(KeyError())
    assert "could not be written" in caplog.records[-1].message
    full.clear()
    assert append_to_file(tmp_path / "lines", "2\n")
    assert (tmp_path / "lines").read_text() == "2\n"


def test_memory_is_not_filled_by_what_waits(tmp_path, full, monkeypatch):
    monkeypatch.setattr(files, "MAX_WAITING_BYTES", 10)
    full |= {"lines"}
    assert not append_to_file(tmp_path / "lines", "123456789\n")
    with pytest.raises(StorageError):
        append_to_file(tmp_path / "lines", "1")


def test_a_line_is_written_whole_or_not_at_all(tmp_path):
    """The system takes the first part of what does not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "lines"
    path.write_text("12345\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        assert not append_to_file(path, "1234567\n")
        assert path.read_text() == "12345\n"
        assert not write_file(tmp_path / "state", "x" * 11)
        assert [one.name for one in tmp_path.iterdir()] == ["lines"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_all_written()
    assert path.read_text() == "12345\n1234567\n"


def test_half_of_a_pair_is_spelled_out(tmp_path):
    write_file(tmp_path / "a", '"\ud83d"')
    assert (tmp_path / "a").read_text() == r'"\ud83d"'


@pytest.mark.parametrize("number", files.OF_THE_DISK)
def test_an_error_of_the_disk_is_one_of_storage_however_deep(number):
    found = None
    try:
        try:
            raise OSError(number, os.strerror(number), "/run/file")
        except OSError as error:
            raise ValueError("a library") from error
    except ValueError as error:
        found = storage_error(error)
    assert found.exit_code == 8
    assert str(found).startswith(f"/run/file: cannot be written ({os.strerror(number)})")


def test_other_errors_are_not_of_the_disk():
    assert storage_error(ValueError("a defect")) is None
    assert storage_error(FileNotFoundError(errno.ENOENT, "missing", "x")) is None
    assert storage_error(RuntimeError("I/O error: No space left on device (os error 28)"))
