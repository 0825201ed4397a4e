"""Runs that are killed, as a machine that goes away kills them."""

import signal
import time


def kill_when(process, is_time, timeout_s=300):
    """Kill a process as soon as `is_time()`."""
    deadline = time.monotonic() + timeout_s
    while not is_time():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
