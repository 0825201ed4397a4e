"""The plan of a session: what counts as a run, parts of the long tests, and when it is late."""

import subprocess
import time
from types import SimpleNamespace

import pytest
from plan import HEAVY_NAMES, place, pytest_runtest_setup, shard, words_of


def starts():
    return subprocess.run


def calls_what_starts():
    def inner():
        return starts()

    return inner


def counts():
    return len("fit for use")


@pytest.mark.parametrize(("function", "is_run"), [(starts, 1), (calls_what_starts, 1), (counts, 0)])
def test_a_run_is_found_through_what_a_test_calls(function, is_run):
    assert bool(HEAVY_NAMES & words_of(function)) == is_run


def test_light_files_come_first_and_then_the_longest():
    files = ["a.py", "end_to_end/test_quickstart.py", "b.py", "recipes/test_runs.py"]
    heavy = set(files) - {"b.py"}
    assert sorted(files, key=lambda name: place(name, heavy)) == [
        "b.py", "end_to_end/test_quickstart.py", "recipes/test_runs.py", "a.py",
    ]  # fmt: skip


def test_a_part_is_one_of_some():
    assert shard("2/3") == (2, 3)
    for text in ("0/3", "4/3", "2"):
        with pytest.raises(ValueError):
            shard(text)


def test_no_test_begins_when_there_is_no_time_left():
    def item(last_s):
        return SimpleNamespace(config=SimpleNamespace(last_begin_s=last_s))

    pytest_runtest_setup(item(None))
    pytest_runtest_setup(item(time.monotonic() + 60))
    with pytest.raises(pytest.skip.Exception, match="begin-within"):
        pytest_runtest_setup(item(time.monotonic() - 1))
