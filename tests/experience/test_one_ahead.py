"""One item is made while the one before is used, from what the world was when that was taken."""

import threading

import pytest
import torch

from luffy_pl.experience.one_ahead import Cancelled, OneAhead

WAIT_S = 10


def test_the_next_item_is_made_from_the_world_as_it_was_when_this_one_was_taken():
    world = {"version": 0}
    ahead = OneAhead(lambda number: (number, world["version"]), length=4)
    seen = []
    for number in range(4):
        seen.append(ahead.take(number))
        ahead.wait()
        world["version"] += 1
    assert seen == [(0, 0), (1, 0), (2, 1), (3, 2)]


def test_it_is_made_while_this_one_is_used_and_nothing_is_made_past_the_end():
    begun, made = threading.Event(), []

    def make(number):
        made.append(number)
        if number == 1:
            begun.set()
        return number

    ahead = OneAhead(make, length=2)
    assert ahead.take(0) == 0
    assert begun.wait(WAIT_S)
    assert ahead.take(1) == 1
    ahead.wait()
    assert made == [0, 1]


def test_a_stream_that_starts_elsewhere_makes_what_it_needs():
    ahead = OneAhead(lambda number: number, length=9)
    assert ahead.take(0) == 0
    assert ahead.take(5) == 5
    assert ahead.take(6) == 6


def test_an_error_is_raised_where_the_item_is_taken():
    def make(number):
        if number == 1:
            raise ValueError("no phase")
        return number

    ahead = OneAhead(make, length=3)
    ahead.take(0)
    ahead.wait()
    with pytest.raises(ValueError, match="no phase"):
        ahead.take(1)


def test_what_nobody_wants_is_given_up():
    started, given_up = threading.Event(), []

    def make(number):
        try:
            while number == 1:
                started.set()
                ahead.check()
        except Cancelled:
            given_up.append(number)
            raise
        return number

    ahead = OneAhead(make, length=3)
    ahead.take(0)
    assert started.wait(WAIT_S)
    ahead.cancel()
    assert given_up == [1]
    ahead.check()  # what is made from now on is wanted
    assert ahead.take(2) == 2


def test_it_is_made_on_the_gpu_of_who_took_the_item_before(monkeypatch):
    """A new thread computes on GPU 0, whichever its rank has."""
    current = threading.local()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: getattr(current, "gpu", 0))
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: setattr(current, "gpu", gpu))
    torch.cuda.set_device(3)
    made = []

    def make(number):
        made.append((threading.current_thread().name == "next-phase", torch.cuda.current_device()))
        return number

    ahead = OneAhead(make, length=2)
    for number in range(2):
        ahead.take(number)
    assert made == [(False, 3), (True, 3)]
