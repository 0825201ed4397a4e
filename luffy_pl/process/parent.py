"""Processes that end with the one that started them, however that ended."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None)
HAS_PRCTL = hasattr(LIBC, "prctl")
"""Whether this is Linux, which alone has it."""


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent is gone; elsewhere it may outlive it."""
    if HAS_PRCTL:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def before_exec() -> None:
    """For `preexec_fn`: the child dies with its parent and can be interrupted.

    A shell starts what is in its background with SIGINT ignored, and a Ray worker may block it;
    both would be inherited.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()
