"""Runs that are killed, as a machine that goes away kills them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def kill_when(args, is_time, timeout_s=300):
    """Start `luffy-pl ARGS` and kill it as soon as `is_time()`."""
    command = [str(Path(sys.executable).parent / "luffy-pl"), *map(str, args)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + timeout_s
    while not is_time():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
