"""What becomes of the ranks that a process started when it ends early."""

import subprocess
from types import SimpleNamespace

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from luffy_pl.callbacks.interruption import Interruption
from luffy_pl.errors import EngineError
from luffy_pl.process.interrupt import Stopped


@pytest.fixture
def launcher():
    made = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1)
    made.procs = [subprocess.Popen(["sleep", "60"])]
    child = made.procs[0]
    yield made
    child.kill()
    child.wait()


def end(launcher, exception):
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))
    Interruption().on_exception(trainer, None, exception)


def test_ranks_that_agreed_are_left_to_end(launcher):
    [child] = launcher.procs
    end(launcher, Stopped(15, is_agreed=True))
    assert launcher.procs == []
    assert child.poll() is None


def test_ranks_that_know_nothing_are_ended(launcher):
    end(launcher, EngineError("data.engine", "broke", fix="try again"))
    assert launcher.procs[0].wait(10) == -9
