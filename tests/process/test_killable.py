"""Workers of a pool say nothing: not where their parent ends as they start, and not at Ctrl-C."""

import subprocess
import sys

import pytest

BEGIN = """
import multiprocessing.popen_spawn_posix as popen
import os, signal
from luffy_pl.process.killable import KillablePool, confine

def when_a_worker_has_just_begun(do):
    def opened(*args, **options):
        do()
        return open(*args, **options)
    popen.open = opened  # by which a worker is told what to do

def harden():
    confine(1 << 30)

"""
ENDS = """
when_a_worker_has_just_begun(lambda: os._exit(7))
KillablePool(workers=1, initializer=harden)
"""
INTERRUPTED = """
signal.signal(signal.SIGINT, lambda *_: None)
when_a_worker_has_just_begun(lambda: os.killpg(0, signal.SIGINT))
pool = KillablePool(workers=2, initializer=harden)
print(pool.schedule(pow, args=(2, 5), timeout=60).result())
pool.stop()
"""


@pytest.mark.parametrize(("script", "code", "answer"), [(ENDS, 7, ""), (INTERRUPTED, 0, "32\n")])
def test_a_worker_that_starts_says_nothing(tmp_path, script, code, answer):
    module = tmp_path / "hardened.py"  # a worker imports its functions from somewhere
    module.write_text(BEGIN)
    done = subprocess.run(
        [sys.executable, "-c", f"from hardened import *\n{script}"], cwd=tmp_path,
        capture_output=True, text=True, timeout=120, start_new_session=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, answer, "")
