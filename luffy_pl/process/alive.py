"""Whether a process runs, as far as it can be known from here."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""Identifies a host, by the kernel's interface; every container has its own."""


def container() -> str:
    """Where numbers of processes count from; empty on a host itself, and where nobody knows."""
    with suppress(OSError):
        own = Path("/proc/self/ns/pid").stat().st_ino
        return "" if own == FIRST_PID_NAMESPACE else f"{own:x}"
    return ""


def place() -> str:
    """Host and container: processes of one place can look each other up."""
    return f"{socket.gethostname()}/{container()}"


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked for its exit code."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1] == ["Z"]
    return False


def is_running(pid: int) -> bool:
    """Whether a process of this place has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:  # what a file said
        return False
    except OSError:  # of another user
        return True
    return not is_zombie(pid)
