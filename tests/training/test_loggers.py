"""Loggers by name: what is missing is one line; Trackio gets what the others get."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
from recipes.small_runs import SMALL

from luffy_pl.errors import ConfigError
from luffy_pl.training import loggers
from luffy_pl.training.loggers import build_loggers

QUICKSTART = ["--config", "conf/quickstart.yaml"]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_one_line_before_anything_is_loaded(
    command_line, tmp_path, monkeypatch, name
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        loggers.importlib.util, "find_spec", lambda asked: None if asked == name else real(asked)
    )
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path, "--loggers", f"[{name}]")
    [line] = done.stderr.splitlines()
    assert done.returncode == 2
    assert f"loggers: needs the package {name}" in line
    assert "pip install" in line
    assert not list(tmp_path.iterdir())


def test_an_unknown_logger_is_one_line(command_line, tmp_path):
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path, "--loggers", "[visdom]")
    [line] = done.stderr.splitlines()
    assert (done.returncode, "loggers" in line, "visdom" in line) == (2, True, True)


def test_a_function_that_returns_no_logger_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(loggers.registry, "find", lambda *_, **__: lambda run_dir, step: None)
    with pytest.raises(ConfigError, match=r"^loggers: mine returns no logger"):
        build_loggers(["mine"], tmp_path, purge_step=None)


def test_without_loggers_there_is_metrics_jsonl(command_line, tmp_path):
    done = command_line("fit", *QUICKSTART, *SMALL, "--data.rollout.num_phases", "1",
                        "--run_dir", tmp_path, "--loggers", "[]")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / "tb").exists()


def test_trackio_gets_metrics_by_phase_and_settings(tmp_path, monkeypatch):
    calls = []
    trackio = SimpleNamespace(
        init=lambda **about: calls.append(("init", about)) or SimpleNamespace(config={}),
        log=lambda metrics, step: calls.append(("log", metrics, step)),
        finish=lambda: calls.append(("finish",)),
    )
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    made, jsonl = build_loggers(["trackio"], tmp_path / "mine")
    made.log_hyperparams({"ablation": "no_shaping"})
    assert made.run.config == {"ablation": "no_shaping"}
    made.log_metrics({"reward": 0.5}, step=3)
    made.finalize("success")
    made.finalize("success")
    about = {"project": "luffy-pl", "name": "mine", "resume": "allow"}
    assert calls == [("init", about), ("log", {"reward": 0.5}, 3), ("finish",)]
    assert jsonl.path == tmp_path / "mine" / "metrics.jsonl"
