"""When a signal takes effect, and how ranks agree on it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from luffy_pl.errors import ConfigError, StorageError
from luffy_pl.process import interrupt
from luffy_pl.process.interrupt import Stopped


class Alone:
    """One rank."""

    def reduce_boolean_decision(self, decision, all=True):
        return decision


class BesideOneThatWasAsked:
    """Two ranks, of which the other one was asked to stop."""

    def reduce_boolean_decision(self, decision, all=True):
        assert not all
        return True


@pytest.fixture(autouse=True)
def handlers():
    with suppress(Stopped), interrupt.signals():
        interrupt.imports_done()
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_training_a_signal_is_an_exception_at_once(number):
    with pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == 143


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_while_training_it_waits_for_a_place_to_stop(tmp_path, capfd, number, code):
    interrupt.defer(tmp_path / "stop")
    interrupt.check()
    interrupt.agree(Alone())
    os.kill(os.getpid(), number)
    name = signal.Signals(number).name
    assert f"{name}: stops as soon as it can be saved" in capfd.readouterr().err
    with pytest.raises(Stopped) as stopped:
        interrupt.check()
    assert (stopped.value.exit_code, stopped.value.is_agreed) == (code, False)
    with pytest.raises(Stopped) as stopped:
        interrupt.agree(Alone())
    assert (stopped.value.exit_code, stopped.value.is_agreed) == (code, True)
    # How the other ranks come to know before they meet this one.
    assert (tmp_path / "stop").read_text() == str(int(number))


def test_a_rank_stops_where_another_was_asked_to(tmp_path):
    interrupt.defer(tmp_path / "stop")
    with pytest.raises(Stopped) as stopped:
        interrupt.together(BesideOneThatWasAsked(), lambda: "done")
    assert stopped.value.is_agreed
    assert interrupt.together(Alone(), lambda: "done") == "done"


@pytest.mark.parametrize(("text", "code"), [("2", 130), ("15", 143), ("", 143)])
def test_a_stop_file_does_the_same(tmp_path, text, code):
    """Of another rank, or touched by a person."""
    interrupt.defer(tmp_path / "stop")
    (tmp_path / "stop").write_text(text)
    with pytest.raises(Stopped) as stopped:
        interrupt.check()
    assert stopped.value.exit_code == code


def test_what_was_stopped_meets_the_others_once(tmp_path):
    """A rank that leaves its work early, and one that learns of it when they meet."""
    meetings = []

    class Counted(Alone):
        def reduce_boolean_decision(self, decision, all=True):
            meetings.append(decision)
            return True

    def sample():
        os.kill(os.getpid(), signal.SIGTERM)
        interrupt.check()

    interrupt.defer(tmp_path / "stop")
    with pytest.raises(Stopped):
        interrupt.together(Counted(), sample)
    assert meetings == [True]


def test_once_everything_is_saved_a_signal_is_an_exception_again(tmp_path):
    interrupt.defer(tmp_path / "stop")
    interrupt.defer_no_more()
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


SECOND = """
import os, signal, sys, time
from pathlib import Path
from luffy_pl.process import interrupt
with interrupt.signals():
    interrupt.defer(Path(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # an echo: a terminal and a launcher both pass it on
    print("still here", flush=True)
    time.sleep(interrupt.ECHO_S + 0.1)
    os.kill(os.getpid(), int(sys.argv[2]))
    print("too far", flush=True)
"""


LOADING = """
import importlib, os, signal, sys
from luffy_pl.process import interrupt
with interrupt.signals():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    except BaseException:
        raise ImportError("what a library makes of it")
    print("too far")
"""
SWALLOWED = """
import os, signal, sys, time
from luffy_pl.process import interrupt
with interrupt.signals():
    interrupt.imports_done()
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    except BaseException:
        pass
    if sys.argv[2] == "go on":
        time.sleep(60)
"""
BELOW_PYTHON = """
import ctypes, os, sys, threading, time
from pathlib import Path
from luffy_pl.process import interrupt
with interrupt.signals():
    interrupt.imports_done()
    if sys.argv[2] == "training":
        interrupt.defer(Path("stop"))
    # As a thread of a library that waits for a rank: no handler in Python runs before it is back.
    def send():
        for _ in range(2):
            time.sleep(interrupt.ECHO_S + 0.2)
            os.kill(os.getpid(), int(sys.argv[1]))
    threading.Thread(target=send).start()
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


@pytest.mark.case(49)
@pytest.mark.parametrize(("number", "code"), [(15, 143), (10, 143), (2, 130)])
def test_while_modules_are_imported_the_process_ends_at_once(number, code):
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(number)], capture_output=True, text=True, check=False
    )
    word = "interrupted" if code == 130 else "terminated"
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"luffy-pl: {word} [{code}]\n"


@pytest.mark.case(49)
@pytest.mark.parametrize(("number", "code"), [(15, 143), (2, 130)])
def test_a_signal_that_somebody_swallows_ends_the_process_all_the_same(number, code):
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, str(number), "go on"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1)
    assert time.monotonic() - began_s < 20


@pytest.mark.parametrize(
    ("made_of_it", "ends_with"),
    [
        (ConfigError("configuration", "is broken", fix="correct it"), Stopped),
        (StorageError("disk", "is full", fix="make room"), StorageError),
    ],
)
def test_a_refusal_that_was_made_of_a_signal_is_none(made_of_it, ends_with):
    """What was lost beside it is told."""

    def load():
        interrupt.imports_done()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Stopped:
            raise made_of_it from None

    with pytest.raises(ends_with), interrupt.signals(is_patient=True):
        load()


@pytest.mark.case(49)
@pytest.mark.parametrize("when", ["starting", "training"])
def test_a_process_that_is_below_python_ends_too(tmp_path, when):
    """While it trains, at the second signal."""
    done = subprocess.run(
        [sys.executable, "-c", BELOW_PYTHON, "15", when],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 143
    word = "terminated" if when == "starting" else "stopped without saving"
    assert word in done.stderr


@pytest.mark.parametrize("error", [ImportError("renamed"), None])
def test_what_became_of_a_signal_is_still_that_signal(error):
    def command():
        with interrupt.signals():
            interrupt.imports_done()
            with suppress(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.is_ending()
            if error is not None:
                raise error

    with pytest.raises(Stopped, match="terminated"):
        command()


def test_an_error_of_its_own_is_not_that_of_a_signal():
    def command():
        with interrupt.signals():
            interrupt.imports_done()
            raise ImportError("its own")

    with pytest.raises(ImportError):
        command()


def test_a_forked_child_keeps_its_signals_to_itself(monkeypatch):
    left = []
    monkeypatch.setattr(interrupt, "GRACE_S", 0.1)
    monkeypatch.setattr(interrupt, "_leave", lambda number, **how: left.append(number))
    with interrupt.signals():
        interrupt.imports_done()
        pid = os.fork()
        if pid == 0:
            with suppress(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        time.sleep(0.5)
    assert left == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_the_process_at_once(tmp_path, number, code):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SECOND, tmp_path / "stop", str(int(number))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "still here\n")
    assert "stopped without saving; the last checkpoint is whole" in done.stderr
    assert time.monotonic() - started < 60
