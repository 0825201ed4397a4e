"""Signs of life, and the stacks of what no longer moves."""

import dataclasses
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from luffy_pl.callbacks.heartbeat import HangWatch
from luffy_pl.cli import main
from luffy_pl.errors import StorageError
from luffy_pl.run_dir.status import RunStatus, read_status, write_status

RUNNING = RunStatus(
    state="running",
    pid=os.getpid(),
    host=socket.gethostname(),
    phase=12,
    num_phases=60,
    stage="generate",
    done=120,
    total=128,
    started=0.0,
    moved=995.0,
    written=998.0,
    every_s=10.0,
)


def test_what_a_person_reads():
    line = RUNNING.line(saved_phase=10, now=1000.0)
    assert line == (
        f"running: phase 12/60, generate 120/128, moved 5 s ago; saved: phase 10; "
        f"process {os.getpid()} on {socket.gethostname()}"
    )
    ended = dataclasses.replace(RUNNING, state="finished", phase=60)
    assert ended.line(saved_phase=60, now=9e9) == "finished: phase 60/60; saved: phase 60"


def test_a_run_is_gone_when_it_is_silent_and_its_process_is_not_there():
    late = 998.0 + 3 * 10 + 1
    gone = "gone: silent for 31 s, phase 12/60, generate; saved: phase 10"
    # On another machine nobody can look.
    elsewhere = dataclasses.replace(RUNNING, host="elsewhere")
    assert elsewhere.line(saved_phase=10, now=late) == gone
    assert elsewhere.line(saved_phase=10, now=late - 2).startswith("running")
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    assert dataclasses.replace(RUNNING, pid=dead).line(saved_phase=10, now=late) == gone
    # A process that stands still is there.
    assert RUNNING.line(saved_phase=10, now=late).startswith("running")


def test_a_status_is_written_and_read(tmp_path, capsys):
    write_status(tmp_path, RUNNING)
    assert read_status(tmp_path) == RUNNING
    assert main(["status", str(tmp_path)]) == 0
    assert "phase 12/60" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "nowhere")]) == 8
    with pytest.raises(StorageError):
        read_status(tmp_path / "nowhere")


def test_stacks_of_what_hangs(tmp_path):
    watch = HangWatch(tmp_path, after_s=0.2, rank=1)
    watch.move("generate")

    def stand_still():
        time.sleep(1.5)

    stand_still()
    watch.move("my bench/mark")
    watch.close()
    [file] = (tmp_path / "logs").iterdir()  # of the stage that moved on in time nothing is left
    assert file.name == "hang-generate-rank1.txt"
    assert "in stand_still" in file.read_text()


def test_what_moves_leaves_nothing(tmp_path):
    watch = HangWatch(tmp_path, after_s=5, rank=0)
    for _ in range(5):
        for stage in ("generate", "score", "train"):
            watch.move(stage)
    watch.close()
    assert list((tmp_path / "logs").iterdir()) == []


def test_two_threads_may_move_at_once(tmp_path):
    watch = HangWatch(tmp_path, after_s=5, rank=0)

    def move(stage):
        for _ in range(500):
            watch.move(stage)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(move, ("generate", "train"))) == [None, None]
    watch.close()
    assert list((tmp_path / "logs").iterdir()) == []
