"""Why torch sees no GPU is said, and what mends it."""

import pytest
import torch

from luffy_pl.config import cross_checks


@pytest.fixture
def refused(command_line, monkeypatch, tmp_path):
    def run(*, built_for, visible=None, has_driver=False):
        monkeypatch.setattr(torch.version, "cuda", built_for)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        (tmp_path / "nvidia0").touch() if has_driver else None
        monkeypatch.setattr(cross_checks, "GPU_FILE", tmp_path / "nvidia0")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", "--trainer.accelerator", "gpu",
            "--run_dir", tmp_path / "run",
        )  # fmt: skip
        [line] = done.stderr.splitlines()
        assert (done.returncode, (tmp_path / "run").exists()) == (2, False)
        assert line.startswith("luffy-pl: error [2] trainer.accelerator: ")
        assert "no CUDA GPU" in line
        return line

    return run


@pytest.mark.parametrize("has_driver", [True, False])
def test_torch_is_built_for_cpus(refused, has_driver):
    line = refused(built_for=None, has_driver=has_driver)
    assert f"torch {torch.__version__} is built for CPUs" in line
    assert "install the build for GPUs (docs/install.md)" in line


@pytest.mark.parametrize("visible", ["", "-1"])
def test_gpus_are_hidden(refused, visible):
    line = refused(built_for="13.0", visible=visible, has_driver=True)
    assert f"CUDA_VISIBLE_DEVICES={visible!r} leaves" in line


def test_the_driver_is_too_old(refused):
    line = refused(built_for="13.0", visible="0", has_driver=True)
    assert "its driver is too old for CUDA 13.0 or broken" in line
    assert "branch 580" in line


def test_there_is_none(refused):
    assert "this machine has no CUDA GPU" in refused(built_for="13.0")
