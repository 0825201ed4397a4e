"""A forked command is a process as any other: what it gets, how it ends, and what is left of it."""

import os
import signal
import time
from pathlib import Path

import forks
import pytest

SCRIPT = """
import atexit, os, sys, threading, time
atexit.register(lambda: print("left", flush=True))
print(os.environ["WHERE"], os.getcwd(), sys.argv[1:], os.getsid(0) == os.getpid(), flush=True)
print(threading.active_count(), "torch" in sys.modules, "vllm" in sys.modules, file=sys.stderr)
if sys.argv[1] == "sleep":
    time.sleep(600)
sys.exit(3)
"""


RANKS = """
import time
from lightning.pytorch.utilities import rank_zero_only
print("rank", rank_zero_only.rank, flush=True)
if rank_zero_only.rank == 1:
    raise SystemExit(3)
time.sleep(600)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_environment_folder_output_and_exit_code(luffy_pl, script):
    done = luffy_pl("a", "b c", script=script, env={"WHERE": "here"})
    assert done.returncode == 3
    first, second = done.stdout.splitlines()
    where, folder, rest = first.split(" ", 2)
    assert (where, rest, second) == ("here", "['a', 'b c'] True", "left")
    assert {path.name for path in Path(folder).iterdir()} == {"conf", "docs", "experiments"}
    assert done.stderr.split() == ["1", "True", "False"]


def test_a_mistake_is_told_as_by_the_program(luffy_pl):
    done = luffy_pl("fitt")
    assert done.returncode == 2
    assert "did you mean fit?" in done.stderr


def test_ranks_know_who_they_are_and_end_with_one_that_failed(luffy_pl, script, monkeypatch):
    monkeypatch.setattr(forks, "OUTLIVES_S", 1)
    script.write_text(RANKS)
    done = luffy_pl(script=script, ranks=2)
    assert sorted(done.stdout.splitlines()) == ["rank 0", "rank 1"]
    assert done.returncode in (3, -signal.SIGKILL)


def test_a_signal_is_an_exit_code(start, script):
    process = start("sleep", script=script, env={"WHERE": ""})
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    process.kill()


def test_nobody_is_left_when_the_one_who_waits_has_gone(start, script):
    process = start("sleep", script=script, env={"WHERE": ""})
    process._connection.close()
    deadline = time.monotonic() + 60
    while is_alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
