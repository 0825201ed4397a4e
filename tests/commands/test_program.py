"""Commands that are printed work where they are read."""

import os
import sys

import pytest

from luffy_pl.commands.program import runnable


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder with a program in `.venv/bin`, in which a person stands."""
    scripts = tmp_path / "clone" / ".venv" / "bin"
    scripts.mkdir(parents=True)
    for name in ("luffy-pl", "tensorboard"):
        (scripts / name).write_text("#!/bin/sh\n")
        (scripts / name).chmod(0o755)
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setattr(sys, "argv", [".venv/bin/luffy-pl", "fit"])
    monkeypatch.setenv("PATH", "/usr/bin")
    return scripts


def test_by_the_path_that_was_typed(installed):
    assert runnable("luffy-pl view outputs/x") == ".venv/bin/luffy-pl view outputs/x"
    assert runnable("Fix: luffy-pl fit --help") == "Fix: .venv/bin/luffy-pl fit --help"
    assert runnable("tensorboard --logdir tb") == ".venv/bin/tensorboard --logdir tb"


def test_by_its_name_where_the_shell_finds_it(installed, monkeypatch):
    monkeypatch.setenv("PATH", f"{installed}{os.pathsep}/usr/bin")
    monkeypatch.setattr(sys, "argv", [str(installed / "luffy-pl")])
    assert runnable("luffy-pl view outputs/x") == "luffy-pl view outputs/x"


def test_by_its_whole_path_from_elsewhere(installed, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(installed / "luffy-pl")])
    assert runnable("luffy-pl view x") == f"{installed / 'luffy-pl'} view x"


def test_started_as_a_module(installed, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/cli.py"])
    assert runnable("luffy-pl view x") == ".venv/bin/luffy-pl view x"
    (installed / "luffy-pl").unlink()
    assert runnable("luffy-pl view x") == f"{installed / 'python'} -m luffy_pl.cli view x"


def test_only_commands_are_changed(installed):
    for text in ("luffy-pl: error", "another luffy-pl", "luffy-pl fit: loading", "a luffy-pl run",
                 "/opt/bin/luffy-pl view x"):  # fmt: skip
        assert runnable(text) == text
