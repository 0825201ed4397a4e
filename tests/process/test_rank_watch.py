"""What the ranks know of each other, told from a store that does as it is told."""

import json
import os
import subprocess
import threading
import time

import pytest
import torch.distributed as dist

from luffy_pl.process import rank_watch
from luffy_pl.process.alive import place
from luffy_pl.process.rank_watch import KEY, RankWatch, is_of_a_collective


class Store:
    """Of two ranks in one process; `refuses` breaks every call, `hangs` never returns from one."""

    def __init__(self):
        self.values, self.refuses, self.hangs = {}, False, False

    def set(self, key, value):
        self.check()
        self.values[key] = value.encode()

    def multi_get(self, keys):
        while not all(key in self.values for key in keys):
            self.check()
            time.sleep(0.005)
        self.check()
        return [self.values[key] for key in keys]

    def check(self):
        if self.refuses:
            raise dist.DistNetworkError("closed")
        while self.hangs:
            time.sleep(0.01)


@pytest.fixture
def quick(monkeypatch):
    for name, value in (("BEAT_S", 0.02), ("LOOK_S", 0.01), ("LAST_S", 0.2), ("FAILED_S", 0.3)):
        monkeypatch.setattr(rank_watch, name, value)


@pytest.fixture
def watch(quick):
    """The watch of one of two ranks, the errors it ends with, and the store."""
    made, store = [], Store()

    def make(rank, deadline_s=0.4):
        errors = []
        one = RankWatch(store, rank=rank, size=2, deadline_s=deadline_s, end=errors.append)
        made.append(one)
        return one, errors

    make.store = store
    yield make
    store.hangs = False
    for one in made:
        one.leave(has_failed=False)


def show(store, state, *, rank=1, pid=None, where=None):
    """What another rank writes."""
    store.set(f"{KEY}{rank}", json.dumps([state, pid or os.getpid(), where or place()]))


def within(seconds, is_so):
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def test_ranks_that_live_and_leave_are_left_alone(watch):
    first, errors = watch(0)
    second, others = watch(1)
    time.sleep(0.8)  # twice the deadline
    second.leave(has_failed=False)
    time.sleep(0.6)
    first.leave(has_failed=False)
    assert errors == others == []


def test_one_that_is_silent_is_named_at_the_deadline(watch):
    show(watch.store, 7, where="other host")
    began_s = time.monotonic()
    _, errors = watch(0)
    assert within(3, lambda: errors)
    assert 0.4 <= time.monotonic() - began_s < 2
    assert str(errors[0]).startswith("rank 1: shows no sign of life for 0 s")
    assert errors[0].exit_code == 5
    assert errors[0].value == f"process {os.getpid()} on other host"


def test_one_that_stands_still_here_is_killed(watch):
    still = subprocess.Popen(["sleep", "60"])
    show(watch.store, 7, pid=still.pid)
    _, errors = watch(0)
    assert within(3, lambda: errors)
    assert str(errors[0]).startswith("rank 1: shows no sign of life")
    assert still.wait(5) == -9


def test_one_that_has_ended_here_is_named_at_once_and_without_a_deadline(watch):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    show(watch.store, 7, pid=pid)  # nobody has asked for its exit code: it is a zombie
    _, errors = watch(0, deadline_s=None)
    assert within(3, lambda: errors)
    os.waitpid(pid, 0)
    assert str(errors[0]).startswith("rank 1: has ended")


def test_one_that_left_and_ended_between_two_looks_at_the_store_is_not_missed(watch, monkeypatch):
    monkeypatch.setattr(rank_watch, "BEAT_S", 0.4)
    other = subprocess.Popen(["sleep", "60"])
    show(watch.store, 7, pid=other.pid)
    _, errors = watch(0)
    time.sleep(0.1)  # it has read that the other one counts
    show(watch.store, "left", pid=other.pid)
    other.kill()
    other.wait()
    time.sleep(0.8)
    assert errors == []


def test_one_that_ended_with_an_error_leaves_the_others_time_for_theirs(watch):
    show(watch.store, "failed")
    _, errors = watch(0)
    time.sleep(0.1)
    assert errors == []
    assert within(3, lambda: errors)
    assert str(errors[0]).startswith("rank 1: ended with an error")


def test_who_finds_a_collective_broken_need_not_wait_so_long(watch, monkeypatch):
    monkeypatch.setattr(rank_watch, "SILENT_S", 0.3)
    show(watch.store, 7, where="other host")
    first, errors = watch(0, deadline_s=3600)
    time.sleep(0.2)
    assert errors == []
    first.wait_for_verdict()
    assert within(1, lambda: errors)


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_the_store_is_that_of_the_first_rank(watch, how):
    show(watch.store, 7, rank=0, where="other host")
    _, errors = watch(1)
    beat = threading.Event()
    threading.Timer(0.2, lambda: (setattr(watch.store, how, True), beat.set())).start()
    assert beat.wait(3)
    assert within(3, lambda: errors)
    assert str(errors[0]).startswith("rank 0: ")


def test_a_first_rank_that_left_may_take_the_store_along(watch):
    show(watch.store, "left", rank=0)
    _, errors = watch(1)
    time.sleep(0.2)
    watch.store.refuses = True
    time.sleep(0.8)
    assert errors == []


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (
            RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection"),
            True,
        ),
        (dist.DistBackendError("NCCL error in: ..."), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("gloo"), False),
    ],
)
def test_which_errors_are_of_a_collective(error, is_one):
    assert is_of_a_collective(error) is is_one
