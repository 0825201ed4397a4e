"""`luffy-pl env`: enough for a report of a bug, and nothing private."""

import json
import os
import platform
import socket
from importlib.metadata import version
from pathlib import Path

from luffy_pl.process import environment


def test_versions_and_hardware(command_line):
    done = command_line("env", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["torch"], found["python"]) == (version("torch"), platform.python_version())
    assert found["cpu cores"] == len(os.sched_getaffinity(0))
    assert found["memory GiB"] > 0


def test_cores_are_counted_where_a_process_cannot_ask_for_its_own(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert environment.environment()["cpu cores"] == 7


def test_what_is_missing_is_said(command_line, monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package",))
    lines = [line.split(maxsplit=1) for line in command_line("env").stdout.splitlines()]
    assert ["no-such-package", "not installed"] in lines


def test_nothing_private(command_line, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    shown = command_line("env").stdout
    for private in ("hf_secret", str(Path.cwd()), f"{Path.home()}/", socket.gethostname()):
        assert private not in shown
