"""Ranks that share an engine: each gets its own answers, and none waits for one that left."""

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from luffy_pl.bundled import resolve
from luffy_pl.errors import ConfigError
from luffy_pl.process import interrupt
from luffy_pl.process.interrupt import Stopped
from luffy_pl.process.ranks import group_timeout
from luffy_pl.records import Completion
from luffy_pl.rollout import tensor_parallel
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.start import start_engine
from luffy_pl.rollout.tensor_parallel import TensorParallelEngine

# By rank.
ASKED = {
    0: [Request((5,), (1, 2), max_tokens=1), Request((6, 7), (3,), max_tokens=1)],
    1: [Request((8, 8, 8), (4, 5), max_tokens=2)],
}


class StandIn:
    """Answers each seed with prompt and seed, a step for each request."""

    policy_version = 3

    def __init__(self):
        self.asked, self.num_steps = [], 0

    def generate(self, requests, *, sampling, on_progress, on_finished):
        self.asked.append(requests)
        found = []
        for place, request in enumerate(requests):
            found.append(answers(request))
            for sample, completion in enumerate(found[-1]):
                on_finished(place, sample, completion)
            self.num_steps += 1
            on_progress(place + 1, len(requests))
        return found


def answers(request):
    return [Completion((*request.token_ids, seed), "stop") for seed in request.seeds]


def generate(engine, rank, **more):
    return engine.generate(ASKED[rank], sampling=Sampling(), **more)


def each_gets_its_own(rank, stand_in, engine):
    told = []
    found = generate(engine, rank, on_finished=lambda *one: told.append(one))
    assert found == [answers(request) for request in ASKED[rank]]
    assert told == [(p, s, one) for p, own in enumerate(found) for s, one in enumerate(own)]
    # The same on both, and the first of each rank first.
    assert stand_in.asked[-1] == [ASKED[0][0], ASKED[1][0], ASKED[0][1]]


def one_that_needs_nothing_helps(rank, stand_in, engine):
    found = engine.generate([], sampling=Sampling()) if rank == 0 else generate(engine, rank)
    assert len(found) == rank
    assert stand_in.asked[-1] == ASKED[1]


def all_stop_with_one(rank, stand_in, engine):
    """At the same step, with its signal; progress is of a rank's own answers."""
    seen = []

    def moved(done, total):
        seen.append((done, total))
        if (rank, done) == (1, 2):
            raise Stopped(10)

    with pytest.raises(Stopped) as caught:
        generate(engine, rank, on_progress=moved)
    assert (caught.value.number, stand_in.num_steps) == (10, 2)
    assert seen[-2:] == ([(0, 2), (2, 2)] if rank else [(2, 3), (2, 3)])


def one_that_left_is_not_waited_for(rank, stand_in, engine):
    stop_file = new_stop_file()
    if rank == 1:  # it was stopped while it graded, and tells the others
        stop_file.write_text("15")
    else:
        with deferred(stop_file), pytest.raises(Stopped):
            generate(engine, rank, on_progress=lambda done, total: interrupt.check())
    dist.barrier()


def one_that_comes_when_the_other_has_left_leaves_too(rank, stand_in, engine):
    tensor_parallel.PATIENCE_S = 0.5
    stop_file = new_stop_file()
    if rank == 1:  # it will not look within the next half second
        with deferred(stop_file):
            interrupt.check()
            stop_file.write_text("15")
            time.sleep(0.2)
            with pytest.raises(Stopped):
                generate(engine, rank, on_progress=lambda done, total: interrupt.check())
    else:
        while not stop_file.exists():
            time.sleep(0.001)
        with deferred(stop_file), pytest.raises(Stopped):
            generate(engine, rank, on_progress=lambda done, total: interrupt.check())
    assert stand_in.asked == []
    dist.barrier()


def a_probe_is_not_stopped(rank, stand_in, engine):
    """It shows no progress, and what follows it is a collective."""
    stop_file = new_stop_file()
    stop_file.write_text("15")
    with deferred(stop_file):
        if rank == 1:
            time.sleep(0.3)
        assert len(generate(engine, rank)) == len(ASKED[rank])


@contextmanager
def deferred(stop_file):
    with interrupt.signals():
        interrupt.defer(stop_file)
        yield


def real_parts_answer_as_a_whole(rank, stand_in, engine):
    from vllm.distributed import get_tensor_model_parallel_world_size

    config = EngineConfig(kind="vllm", max_model_len=96, tensor_parallel_size=2)
    cut = start_engine(resolve("bundled:base"), config, stop_token_ids=[1])
    assert get_tensor_model_parallel_world_size() == 2
    for _ in range(2):
        found = generate(cut, rank)
    tokens = [[one.token_ids for one in own] for own in found]
    sys.stdout.write(f"FOUND {json.dumps([rank, tokens])}\n")
    cut.close()
    dist.barrier()  # the group is the trainer's, and stays


def new_stop_file():
    """Of the scene that calls this."""
    return Path(os.environ["STOP_FILES"]) / sys._getframe(1).f_code.co_name


SCENES = (
    each_gets_its_own,
    one_that_needs_nothing_helps,
    all_stop_with_one,
    one_that_left_is_not_waited_for,
    one_that_comes_when_the_other_has_left_leaves_too,
    a_probe_is_not_stopped,
)


def main(names):
    dist.init_process_group("gloo")
    for name in names:
        stand_in = StandIn()
        engine = TensorParallelEngine(lambda: stand_in, size=2)  # noqa: B023
        globals()[name](dist.get_rank(), stand_in, engine)
    sys.stdout.flush()
    # What was not waited for would be waited for here.
    os._exit(0)


def on_two_ranks(luffy_pl, scenes, tmp_path, **options):
    names = [scene.__name__ for scene in scenes]
    environment = {"STOP_FILES": str(tmp_path)}
    done = luffy_pl(*names, script=__file__, ranks=2, env=environment, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_ranks(luffy_pl, tmp_path):
    on_two_ranks(luffy_pl, SCENES, tmp_path)


@pytest.mark.long
def test_real_parts_answer_as_a_whole(luffy_pl, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is an extra")
    said = on_two_ranks(luffy_pl, [real_parts_answer_as_a_whole], tmp_path, with_vllm=True)
    lines = said.splitlines()
    found = dict(json.loads(line[6:]) for line in lines if line.startswith("FOUND "))
    whole = start_engine(
        resolve("bundled:base"), EngineConfig(kind="vllm", max_model_len=96), stop_token_ids=[1]
    )
    for rank in (0, 1):
        expected = [[list(one.token_ids) for one in own] for own in generate(whole, rank)]
        assert found[rank] == expected


def test_what_a_killed_run_left_is_removed_and_nothing_else(monkeypatch, tmp_path):
    own, of_others, other = (
        tmp_path / name for name in ("-tp:0-[2-3]-cpushm_0", "-tp:0-[12-3]-cpushm_1", "psm_1")
    )
    for file in (own, of_others, other):
        file.touch()
    monkeypatch.setattr(tensor_parallel, "SHARED_MEMORY", tmp_path)
    tensor_parallel.remove_leftovers([2, 3])
    assert set(tmp_path.iterdir()) == {of_others, other}


def test_ranks_of_an_engine_wait_longer_than_its_deadline(monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is an extra")
    given = []

    def new_group(ranks, *, backend, timeout):
        given.append(timeout)
        raise LookupError

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "new_group", new_group)
    config = EngineConfig(kind="vllm", tensor_parallel_size=2, deadline_s=7200.0)
    with pytest.raises(LookupError):
        start_engine("model", config, stop_token_ids=[1])
    assert given == [group_timeout(7200.0)]


def test_ranks_that_cannot_be_divided_are_one_line():
    config = EngineConfig(kind="vllm", tensor_parallel_size=2)
    with pytest.raises(ConfigError, match="does not divide the number of ranks, 1"):
        start_engine("nowhere", config, stop_token_ids=[1])


@pytest.mark.parametrize(("settings", "said"), [
    ({"tensor_parallel_size": 0}, "at least 1"),
    ({"tensor_parallel_size": 2, "kind": "hf"}, "kind=hf"),
    ({"tensor_parallel_size": 2, "kind": "vllm_server"}, "luffy-pl serve"),
])  # fmt: skip
def test_what_cannot_be_shared_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        EngineConfig(**settings)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
