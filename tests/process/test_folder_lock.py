"""A folder has one writer at a time, on one host and on several."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import SoftFileLease

from luffy_pl.errors import StorageError
from luffy_pl.process import folder_lock
from luffy_pl.process.folder_lock import alone

HOLD = """
import sys, time
from pathlib import Path
from luffy_pl.process.folder_lock import alone
with alone(Path(sys.argv[1]), "fit"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A lock of another host, and a clock on which two seconds without a sign are many."""
    monkeypatch.setattr(folder_lock, "SILENT_S", 2.0)
    monkeypatch.setattr(folder_lock, "POLL_S", 0.05)
    lease = SoftFileLease(tmp_path / ".fit.lock", lease_duration=2.0)
    with lease:
        text = (tmp_path / ".fit.lock").read_text()
    there = text.replace(f"host={os.uname().nodename}", "host=elsewhere")
    assert there != text
    (tmp_path / ".fit.lock").write_text(there)
    return tmp_path / ".fit.lock"


def test_a_second_process_is_refused_by_name_and_the_folder_is_free_afterwards(tmp_path, holder):
    wanted = f"is in use by another luffy-pl, got 'process {holder.pid} on {os.uname().nodename}'"
    began_s = time.monotonic()
    with pytest.raises(StorageError, match=wanted), alone(tmp_path, "fit"):
        pass
    assert time.monotonic() - began_s < 2
    # Another command writes other files.
    with alone(tmp_path, "validate"):
        pass
    holder.send_signal(signal.SIGINT)
    holder.wait()
    with alone(tmp_path, "fit"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, holder, is_waited_for):
    holder.kill()
    if is_waited_for:
        holder.wait()
    else:
        while "State:\tZ" not in open(f"/proc/{holder.pid}/status").read():  # noqa: PTH123, SIM115
            time.sleep(0.01)
    began_s = time.monotonic()
    with alone(tmp_path, "fit"):
        assert time.monotonic() - began_s < 2


def test_a_process_of_another_host_is_gone_when_it_is_silent(elsewhere):
    began_s = time.monotonic()
    with alone(elsewhere.parent, "fit"):
        assert time.monotonic() - began_s >= 2.0


def test_a_process_of_another_host_that_lives_is_refused(elsewhere):
    ended = threading.Event()

    def beat():
        while not ended.wait(0.3):
            os.utime(elsewhere)

    thread = threading.Thread(target=beat)
    thread.start()
    began_s = time.monotonic()
    try:
        with pytest.raises(StorageError, match=r"process \d+ on elsewhere"):
            alone(elsewhere.parent, "fit").__enter__()
        assert time.monotonic() - began_s < 1.9  # of 2 until it would count as gone
    finally:
        ended.set()
        thread.join()


def test_a_process_that_stood_still_ends_when_another_has_its_folder(tmp_path, monkeypatch, capfd):
    """It may not go on to write there."""
    left = []
    monkeypatch.setattr(folder_lock, "SILENT_S", 0.3)
    monkeypatch.setattr(folder_lock.os, "_exit", left.append)
    with alone(tmp_path, "fit"):
        lock = tmp_path / ".fit.lock"
        other = tmp_path / "other"
        other.write_text(lock.read_text())
        other.replace(lock)
        deadline = time.monotonic() + 20
        while not left and time.monotonic() < deadline:
            time.sleep(0.02)
    assert left == [8]
    assert "another process took it over" in capfd.readouterr().err
