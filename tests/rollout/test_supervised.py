"""An engine that breaks, hangs, answers short or has half of its weights."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref

import psutil
import pytest
import torch

from luffy_pl.errors import EngineError, ModelError
from luffy_pl.process.faults import VARIABLE
from luffy_pl.records import Completion
from luffy_pl.rollout import supervised, vllm_engine
from luffy_pl.rollout.deadline import Deadline, Late
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.start import start_engine, start_supervised
from luffy_pl.rollout.supervised import SupervisedEngine

REQUESTS = [Request((5,), (1, 2), max_tokens=4), Request((6,), (3,), max_tokens=4)]
WEIGHTS = PolicyWeights({"w": torch.ones(1), "v": torch.ones(1)}, prefix="", is_repeatable=True)


class StandIn:
    """Answers a seed with that seed and the weights; breaks as often as it is told."""

    breaks = 0
    made = 0
    error = "core died\nand more"
    kind = RuntimeError

    def __init__(self):
        type(self).made += 1
        self.policy_version, self.weights = -1, {}

    def generate(self, requests, *, sampling, on_progress=None, on_finished=None):
        on_progress(0, 1)
        on_finished(0, 0, Completion((1, 1), "stop"))
        if type(self).breaks:
            type(self).breaks -= 1
            raise self.kind(self.error)
        number = int(self.weights["w"].item()) if self.weights else 0
        return [[Completion((seed, number), "stop") for seed in one.seeds] for one in requests]

    def load_weights(self, weights, *, policy_version):
        for name, tensor in weights:
            self.weights[name] = tensor
        self.policy_version = policy_version

    def close(self):
        self.weights = None


@pytest.fixture
def engine(tmp_path):
    StandIn.breaks = StandIn.made = 0
    engine = SupervisedEngine(StandIn, deadline_s=3.0, stacks=tmp_path / "logs" / "hang.txt")
    engine.load_weights(WEIGHTS, policy_version=3)
    return engine


def sample(engine, shown=None, on_finished=None):
    def show(done, total):
        if shown is not None:
            shown.append(done)

    return engine.generate(REQUESTS, sampling=Sampling(), on_progress=show, on_finished=on_finished)


ANSWERS = [[Completion((1, 1), "stop"), Completion((2, 1), "stop")], [Completion((3, 1), "stop")]]


@pytest.mark.case(25)
def test_a_broken_engine_is_replaced_with_its_weights_and_asked_again(engine):
    StandIn.breaks, told = 1, []
    assert sample(engine, on_finished=lambda *answer: told.append(answer)) == ANSWERS
    assert told == [(0, 0, ANSWERS[0][0])]  # and not a second time
    assert (StandIn.made, engine.num_replaced, engine.policy_version) == (2, 1, 3)


class Heavy(StandIn):
    """Breaks in a pass over its model, whose frame the error keeps."""

    models: list[weakref.ref] = []  # noqa: RUF012
    left: list[int] = []  # noqa: RUF012
    """Models of earlier engines that were there when one was started, for each start."""

    def __init__(self):
        super().__init__()
        self.left.append(sum(model() is not None for model in self.models))
        self.model = torch.nn.Linear(1, 1)
        self.models.append(weakref.ref(self.model))

    def generate(self, *args, **kwargs):
        model = self.model
        found = super().generate(*args, **kwargs)
        assert model is not None
        return found

    def close(self):
        raise RuntimeError("it is broken")


@pytest.mark.case(25)
def test_nothing_of_a_broken_engine_is_left_when_the_next_one_starts(tmp_path):
    """On a GPU both would not fit, and vLLM has one engine at a time in a process."""
    Heavy.breaks = Heavy.made = 0
    engine = SupervisedEngine(Heavy, deadline_s=3.0, stacks=tmp_path / "hang.txt")
    engine.load_weights(WEIGHTS, policy_version=3)
    Heavy.breaks = 1
    assert sample(engine) == ANSWERS
    assert Heavy.left == [0, 0]


DEVICE_ERRORS = {
    "by torch": torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    "by a kernel": RuntimeError("Triton Error [CUDA]: CUDA error: device-side assert triggered"),
}


@pytest.mark.parametrize("error", DEVICE_ERRORS.values(), ids=DEVICE_ERRORS)
@pytest.mark.parametrize(
    ("asked", "ask"),
    [
        ("generate", sample),
        ("load_weights", lambda engine: engine.load_weights(WEIGHTS, policy_version=4)),
    ],
)
def test_a_gpu_that_failed_ends_the_run_and_no_engine_is_started(
    engine, monkeypatch, error, asked, ask
):
    """Its context stays broken: what helps is a new process."""

    def fail(self, *args, **kwargs):
        try:
            raise error
        except RuntimeError as low:
            raise ValueError("the core died") from low

    monkeypatch.setattr(StandIn, asked, fail)
    with pytest.raises(EngineError, match=r"GPU no more.*--resume") as caught:
        ask(engine)
    assert (caught.value.exit_code, StandIn.made) == (5, 1)


def test_want_of_memory_is_no_failure_of_the_gpu(engine, monkeypatch):
    monkeypatch.setattr(StandIn, "kind", torch.OutOfMemoryError)
    monkeypatch.setattr(StandIn, "error", "CUDA out of memory. Tried to allocate 2 GiB")
    StandIn.breaks = 1
    assert sample(engine) == ANSWERS
    assert StandIn.made == 2


@pytest.mark.case(25)
def test_a_second_death_within_ten_minutes_ends_the_run(engine, monkeypatch):
    StandIn.breaks = 1
    sample(engine)
    StandIn.breaks = 1
    with pytest.raises(EngineError, match=r"twice within ten minutes \(core died\)\."):
        sample(engine)
    StandIn.breaks = 1
    monkeypatch.setattr(supervised, "MIN_LIFE_S", 0.0)
    assert sample(engine) == ANSWERS
    StandIn.breaks = 2
    with pytest.raises(EngineError, match="sampling failed twice"):
        sample(engine)


def test_on_several_ranks_a_broken_engine_ends_the_run(engine):
    """No rank can make the weights alone."""
    weights = dataclasses.replace(WEIGHTS, is_repeatable=False)
    engine.load_weights(weights, policy_version=3)
    StandIn.breaks = 1
    with pytest.raises(EngineError, match="sampling failed"):
        sample(engine)
    assert StandIn.made == 1


@pytest.mark.case(26)
def test_a_hanging_engine_is_replaced_and_its_stacks_are_kept(engine, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "rollout_hang@step=3")
    assert sample(engine, shown=[]) == ANSWERS
    assert engine.num_replaced == 1
    assert "_sleep_for_ever" in (tmp_path / "logs" / "hang.txt").read_text()


@pytest.mark.case(46)
def test_work_that_moves_is_never_late(tmp_path, monkeypatch):
    """Nor where the clock is set back or forward meanwhile."""
    clock = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    with Deadline(3.0, tmp_path / "stacks") as deadline:
        for _ in range(8):
            time.sleep(0.5)
            deadline.moved()
    assert not (tmp_path / "stacks").exists()


def test_work_that_stands_still_is_late(tmp_path):
    def stand_still():
        with Deadline(0.2, tmp_path / "stacks"):
            for _ in range(1000):
                time.sleep(0.01)

    with pytest.raises(Late):
        stand_still()


@pytest.mark.case(26)
def test_work_that_python_cannot_reach_ends_the_process(tmp_path):
    script = textwrap.dedent(f"""
        from pathlib import Path
        import threading
        from luffy_pl.rollout import deadline
        deadline.GRACE_S = 0.2
        with deadline.Deadline(0.2, Path({str(tmp_path / "stacks")!r})):
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 5
    assert done.stderr.startswith("luffy-pl: error [5] data.engine.deadline_s: no progress for")
    assert "Thread" in (tmp_path / "stacks").read_text()


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("point", "words"),
    [("rollout_short", "prompt 0: 1 of 2"), ("rollout_twice", "prompt 0: 3 of 2")],
)
def test_rewards_are_never_given_to_the_wrong_rows(engine, monkeypatch, point, words):
    monkeypatch.setenv(VARIABLE, f"{point}@step=3")
    with pytest.raises(EngineError, match=words):
        sample(engine, shown=[])


@pytest.mark.case(32)
def test_weights_that_break_off_are_sent_again(engine, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sync_fail@step=4")
    engine.load_weights(WEIGHTS, policy_version=4)
    assert engine.policy_version == 4
    assert sample(engine) == ANSWERS


@pytest.mark.case(32)
def test_nothing_is_sampled_from_half_of_the_weights(engine, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sync_fail@step=4,sync_fail@step=4")
    with pytest.raises(EngineError, match="did not arrive twice"):
        engine.load_weights(WEIGHTS, policy_version=4)
    with pytest.raises(EngineError, match="handed over in part"):
        sample(engine)


@pytest.mark.case(33)
def test_a_sync_that_was_left_out_shows_in_the_version(engine, monkeypatch):
    monkeypatch.setenv(VARIABLE, "sync_skip@step=4")
    engine.load_weights(WEIGHTS, policy_version=4)
    assert engine.policy_version == 3


@pytest.mark.case(27)
def test_an_engine_that_does_not_start_ends_the_run_and_leaves_nothing(monkeypatch, base_path):
    def start_llm(model_path, config):
        raise OSError("Address already in use\nand more")

    before = psutil.Process().children(recursive=True)
    monkeypatch.setattr(vllm_engine, "start_llm", start_llm)
    with pytest.raises(EngineError, match="does not start: Address already in use") as caught:
        vllm_engine.VllmEngine(base_path, EngineConfig(), stop_token_ids=[1])
    assert caught.value.exit_code == 5
    assert psutil.Process().children(recursive=True) == before


def listening(process):
    return {
        connection.laddr.ip
        for each in [process, *process.children(recursive=True)]
        for connection in each.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.case(25)
@pytest.mark.slow
def test_vllm_is_replaced_samples_the_same_and_listens_on_loopback_only(
    base_path, tmp_path, monkeypatch
):
    """Started anew in this process, with the weights it had, when the broken one is gone."""
    pytest.importorskip("vllm", reason="vLLM is an extra")
    from vllm.v1.engine.llm_engine import LLMEngine

    before = listening(psutil.Process())
    threads = torch.get_num_threads(), torch.set_num_threads
    engine = start_supervised(
        base_path, EngineConfig(kind="vllm", max_model_len=96), stop_token_ids=[1], run_dir=tmp_path
    )
    other = start_engine(base_path, EngineConfig(kind="hf"), stop_token_ids=[1])
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: weight + 0.05 * torch.randn(weight.shape, generator=generator)
        for name, weight in other.model.state_dict().items()
    }
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    repeatable = PolicyWeights(weights, prefix="", is_repeatable=True)
    engine.load_weights(repeatable, policy_version=7)
    asked = [Request((5, 9), (1, 2), max_tokens=12), Request((5, 17), (3,), max_tokens=12)]
    expected = engine.generate(asked, sampling=Sampling())
    step, start, steps, left = LLMEngine.step, engine._start, [], []
    first = weakref.ref(engine._engine._llm.llm_engine)

    def breaks_half_way(self):
        steps.append(1)
        if len(steps) == 4:
            raise RuntimeError("core died")
        return step(self)

    def starts():
        left.append(first())
        return start()

    monkeypatch.setattr(LLMEngine, "step", breaks_half_way)
    monkeypatch.setattr(engine, "_start", starts)
    assert engine.generate(asked, sampling=Sampling()) == expected
    assert (engine.num_replaced, engine.policy_version) == (1, 7)
    assert left == [None]
    assert (torch.get_num_threads(), torch.set_num_threads) == threads
    assert listening(psutil.Process()) - before <= {"127.0.0.1", "::1"}
    engine.close()


@pytest.mark.case(28)
@pytest.mark.slow
def test_nothing_is_left_when_the_trainer_is_killed(start, tmp_path):
    """Killed while it trains with the verifier's workers running."""
    overlay = tmp_path / "o.yaml"
    overlay.write_text(
        "data: {engine: {kind: hf}, benchmarks: [], rollout: {prompts_per_phase: 4}}\n"
        "progress: {line_every_s: 0}\n"
    )
    process = start(
        "fit", "--config", "conf/quickstart.yaml", "--config", overlay,
        "--run_dir", tmp_path / "run", stderr=subprocess.PIPE,
    )  # fmt: skip
    for line in process.stderr:
        if "phase 1/60" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert listening(psutil.Process(process.pid)) <= {"127.0.0.1", "::1"}
    os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.parametrize("kind", ["hf", "vllm"])
def test_a_folder_without_weights_is_no_matter_of_the_engines_settings(tmp_path, kind):
    with pytest.raises(ModelError, match=r"model\.policy\.path: the folder holds no weights"):
        start_engine(str(tmp_path), EngineConfig(kind=kind), stop_token_ids=[1])
