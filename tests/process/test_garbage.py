"""Python's collector is off while a command starts, and on again before anything is thrown away."""

import gc
import subprocess
import sys
from argparse import Namespace

import pytest
from lightning.pytorch.cli import LightningCLI

from luffy_pl import cli
from luffy_pl.process.garbage import left_alone
from luffy_pl.registry import register
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.start import start_engine
from luffy_pl.run import command
from luffy_pl.run.lightning_cli import LuffyCLI
from luffy_pl.run_dir import status


@pytest.fixture(autouse=True)
def on():
    gc.enable()
    gc.unfreeze()
    yield
    gc.enable()
    gc.unfreeze()


def test_it_is_as_before_when_a_block_ends():
    with left_alone(), left_alone():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with pytest.raises(KeyError), left_alone():
        raise KeyError
    assert not gc.isenabled()


@pytest.mark.parametrize(
    ("module", "args", "is_on"), [(command, ["fit"], False), (status, ["status", "run"], True)]
)
def test_a_command_begins_with_its_imports_kept(monkeypatch, module, args, is_on):
    seen = []
    monkeypatch.setattr(
        module, "main", lambda _: seen.append((gc.isenabled(), gc.get_freeze_count() > 1000))
    )
    assert cli.main(args) == 0
    assert seen == [(is_on, True)]
    assert gc.isenabled()


def test_a_second_command_keeps_no_more(monkeypatch):
    monkeypatch.setattr(status, "main", lambda _: 0)
    cli.main(["status", "run"])
    kept = gc.get_freeze_count()
    thrown_away = []
    thrown_away.append(thrown_away)
    cli.main(["status", "run"])
    assert gc.get_freeze_count() <= kept


def test_a_run_with_its_settings_composed_looks_again(monkeypatch):
    seen = []
    monkeypatch.setattr(LightningCLI, "_run_subcommand", lambda *_: seen.append(gc.isenabled()))
    run = object.__new__(LuffyCLI)
    run.config = {"fit": Namespace(dry_run=False)}
    with left_alone():
        run._run_subcommand("fit")
    assert seen == [True]


def test_it_is_off_while_an_engine_starts():
    register("engine", "garbage-test")(lambda *_: gc.isenabled())
    assert start_engine("model", EngineConfig(kind="garbage-test"), stop_token_ids=[]) is False
    assert gc.isenabled()


def test_the_program_ends_without_looking():
    """Whatever took it back: the last to run at the end leaves nothing to look through."""
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "sys.argv = ['luffy-pl', '--version']\n"
        "from luffy_pl import cli\n"
        "cli.main()\n"
        "atexit.register(gc.unfreeze)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
