"""Python as on a Mac without vLLM, as far as Linux can show it: in every process that finds this.

What only Linux has is gone for the package, but not for the libraries, whose builds are Linux's.
"""

import builtins
import ctypes
import io
import os
import resource
import sys

sys.modules["vllm"] = None
for name in (
    "sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "fdatasync",
    "posix_fadvise", "copy_file_range", "sched_getscheduler",
):  # fmt: skip
    if hasattr(os, name):
        delattr(os, name)

OF_LINUX = ("prctl", "mallopt", "malloc_trim", "unshare", "gettid")
found, setrlimit = ctypes.CDLL.__getattr__, resource.setrlimit


def of_the_library(library, name):
    if name in OF_LINUX:
        raise AttributeError(name)
    return found(library, name)


def limited(which, limits):
    if which == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    setrlimit(which, limits)


def is_asked_by_the_package():
    """Whether one of the nearest callers is a file of luffy_pl."""
    frame = sys._getframe(2)
    for _ in range(4):
        if frame is None:
            return False
        if f"{os.sep}luffy_pl{os.sep}" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def without_proc(function):
    def asked(path, *args, **kwargs):
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if name.startswith(("/proc/", "/dev/shm")) and is_asked_by_the_package():
            raise FileNotFoundError(2, "No such file or directory", name)
        return function(path, *args, **kwargs)

    return asked


ctypes.CDLL.__getattr__, resource.setrlimit = of_the_library, limited
io.open = builtins.open = without_proc(io.open)
os.stat = without_proc(os.stat)
