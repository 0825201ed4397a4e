"""A GPU that failed while the policy trained is no defect of the program."""

import json

import pytest
import torch
from recipes.small_runs import SMALL

from luffy_pl.process.gpu_failure import is_gpu_failure
from luffy_pl.training.module import LuffyModule


@pytest.mark.parametrize(("error", "code"), [
    (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), 5),
    (RuntimeError("NCCL Error 1: unhandled cuda error, CUDA error: unspecified launch failure"), 5),
    (RuntimeError("shapes differ"), 1),
])  # fmt: skip
def test_a_run_ends_with_the_code_of_what_failed(command_line, monkeypatch, tmp_path, error, code):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(LuffyModule, "_backward", fail)
    done = command_line("fit", "--config", "conf/quickstart.yaml", *SMALL, "--run_dir", tmp_path)
    assert done.returncode == code
    last = done.stderr.splitlines()[-1]
    assert ("--resume continues" in last) == (code == 5)
    assert json.loads((tmp_path / "error.json").read_text())["exit_code"] == code
    assert "in fail" in (tmp_path / "logs" / "traceback.txt").read_text()


def test_want_of_memory_is_none():
    assert not is_gpu_failure(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
