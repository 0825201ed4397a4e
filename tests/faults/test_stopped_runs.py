"""A run that is asked to stop, at any moment, goes on later as if it had not been."""

import os
import shutil
import signal

import pytest
from recipes.small_runs import SMALL
from same_run import differences
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luffy_pl.experience import datamodule
from luffy_pl.reward.math_verifier import MathVerifier
from luffy_pl.rollout.hf_engine import HfEngine, SeededSampling
from luffy_pl.run_dir import checkpoints as checkpoint_folder
from luffy_pl.run_dir.checkpoints import newest
from luffy_pl.run_dir.read import read_lines
from luffy_pl.training.module import LuffyModule

RUN = [
    "--config", "conf/quickstart.yaml", "--config", "conf/recipe/relift.yaml", *SMALL,
    "--data.rollout.imitation_buffer", "20",
    "--data.rollout.group_size", "4",
    "--data.rollout.num_phases", "4",
    "--checkpoint.every_n_phases", "3",
    "--evaluation.every_n_phases", "2",
    "--data.benchmarks", '[{"name": "b", "source": {"path": "bundled:heldout.jsonl", "limit": 4}}]',
]  # fmt: skip
PHASE = 2
"""Of the signal, counted from 0: after one without checkpoint and evaluation."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody disturbs."""
    from luffy_pl.cli import main

    folder = tmp_path_factory.mktemp("whole")
    assert main(["fit", *RUN, "--run_dir", str(folder)]) == 0
    return folder


def send_within(monkeypatch, owner, name, number, *, is_time):
    """Send a signal to this process in the midst of a call."""
    inner, sent = getattr(owner, name), []

    def disturbed(self, *args, **kwargs):
        if not sent and is_time(self):
            sent.append(True)
            os.kill(os.getpid(), number)
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, disturbed)


def in_phase(stage):
    """Engines know the phase by their version; a generation is one of training or evaluation."""
    state = {"version": -1, "is_evaluation": False}
    load, generate = HfEngine.load_weights, HfEngine.generate

    def watch(monkeypatch):
        def loaded(self, weights, *, policy_version):
            state["version"] = policy_version
            return load(self, weights, policy_version=policy_version)

        def generated(self, prompts, **kwargs):
            # Of 4 problems, 8 prompts, or the one of the probe.
            state["asked"] = {4: "evaluate", 1: "probe"}.get(len(prompts), "generate")
            return generate(self, prompts, **kwargs)

        monkeypatch.setattr(HfEngine, "load_weights", loaded)
        monkeypatch.setattr(HfEngine, "generate", generated)

    return watch, lambda _: state["version"] == PHASE and state.get("asked") == stage


def disturb(monkeypatch, stage, number):
    """Arrange for a signal in a stage of phase PHASE."""
    if stage in ("generate", "evaluate", "probe"):
        watch, is_time = in_phase(stage)
        watch(monkeypatch)
        send_within(monkeypatch, SeededSampling, "__call__", number, is_time=is_time)
    elif stage == "score":
        watch, is_time = in_phase("generate")
        watch(monkeypatch)
        send_within(monkeypatch, MathVerifier, "grade", number, is_time=is_time)
    elif stage == "train":
        send_within(
            monkeypatch, LuffyModule, "_optimizer_step", number,
            is_time=lambda module: module.phases_trained == PHASE,
        )  # fmt: skip
    else:
        assert stage == "save"
        inner = checkpoint_folder.publish

        def publish(*args):
            os.kill(os.getpid(), number)
            return inner(*args)

        monkeypatch.setattr(checkpoint_folder, "publish", publish)


STAGES = {"generate": 2, "score": 2, "evaluate": 2, "probe": 2, "train": 3, "save": 3}
"""And the phase that is saved: one that trains is trained to its end."""


@pytest.mark.case(44)
@pytest.mark.parametrize("stage", STAGES)
def test_stopped_and_resumed_is_the_run_that_was_not(
    command_line, tmp_path, monkeypatch, whole, stage
):
    number = signal.SIGINT if stage == "score" else signal.SIGTERM
    with monkeypatch.context() as patch:
        disturb(patch, stage, number)
        stopped = command_line("fit", *RUN, "--run_dir", tmp_path)
    code, word = (130, "interrupted") if number == signal.SIGINT else (143, "terminated")
    assert stopped.returncode == code, stopped.stderr
    saved, _ = newest(tmp_path / "checkpoints")
    assert saved.phase == STAGES[stage]
    command = f"luffy-pl fit --resume --run_dir {tmp_path}"
    *_, said, last = stopped.stderr.splitlines()
    assert said == f"phase {saved.phase} is saved; continue with: {command}"
    assert last == f"luffy-pl: {word} [{code}]"
    status = command_line("status", tmp_path).stdout
    assert status == f"stopped: phase {saved.phase}/4; saved: phase {saved.phase}\n"

    resumed = command_line(*command.split()[1:])
    assert resumed.returncode == 0, resumed.stderr
    assert differences(whole, tmp_path) == []
    assert doubled_steps(tmp_path) == {}
    rows = [(row["phase"], row["benchmark"]) for row in read_lines(tmp_path / "evaluation.jsonl")]
    assert rows == [(0, "b"), (2, "b"), (4, "b")]
    assert not list((tmp_path / "logs").iterdir())


def test_an_evaluation_that_comes_again_is_kept_once(command_line, tmp_path, monkeypatch, whole):
    """Stopped within it, resumed past it, and killed before the next checkpoint."""
    with monkeypatch.context() as patch:
        disturb(patch, "evaluate", signal.SIGTERM)
        assert command_line("fit", *RUN, "--run_dir", tmp_path / "run").returncode == 143
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.copytree(checkpoints, tmp_path / "kept", symlinks=True)
    resume = ("fit", "--resume", "true", "--run_dir", tmp_path / "run")
    assert command_line(*resume).returncode == 0
    shutil.rmtree(checkpoints)
    shutil.copytree(tmp_path / "kept", checkpoints, symlinks=True)
    assert command_line(*resume).returncode == 0
    assert differences(whole, tmp_path / "run") == []
    rows = read_lines(tmp_path / "run" / "evaluation.jsonl")
    assert [(row["phase"], row["benchmark"]) for row in rows] == [(0, "b"), (2, "b"), (4, "b")]


def doubled_steps(run_dir):
    """Scalars with a step twice, as TensorBoard shows them."""
    shown = EventAccumulator(str(run_dir / "tb"), size_guidance={"scalars": 0})
    shown.Reload()
    steps = {tag: [event.step for event in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}
    assert steps
    return {tag: found for tag, found in steps.items() if len(set(found)) < len(found)}


def test_global_generators_decide_nothing(command_line, tmp_path, monkeypatch, whole):
    """Drawing from them at the wrong times changes no bit of a run."""
    import random

    import numpy as np
    import torch

    inner = datamodule.LuffyDataModule.collect

    def collect(self, phase):
        for draw in (random.random, np.random.rand, lambda: torch.rand(7)):
            draw()
        return inner(self, phase)

    monkeypatch.setattr(datamodule.LuffyDataModule, "collect", collect)
    assert command_line("fit", *RUN, "--run_dir", tmp_path).returncode == 0
    assert differences(whole, tmp_path) == []
