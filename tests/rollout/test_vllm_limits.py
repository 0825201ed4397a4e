"""What vLLM cannot do with a family on a CPU is told before it starts."""

import pytest
from policy.families import tiny_config

from luffy_pl.errors import EngineError
from luffy_pl.rollout import serve, vllm_limits
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.vllm_engine import VllmEngine
from luffy_pl.rollout.vllm_limits import caches_prefixes, check_computed


@pytest.fixture
def folder(tmp_path):
    def write(family):
        tiny_config(family).save_pretrained(tmp_path)
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    ("family", "caches"),
    [("qwen2", True), ("gpt_oss", True), ("granitemoehybrid", False), ("jamba", False)],
)
def test_prefixes_are_cached_of_attention_alone(folder, family, caches):
    """Here, and by a server."""
    path = folder(family)
    config = vllm_limits.language_config(path)
    check_computed(config, dtype="float32")
    assert caches_prefixes(config) == caches
    told = serve.command(serve.parser().parse_args([path]), on_gpu=False)
    assert ("--enable-prefix-caching" in told, "--no-enable-prefix-caching" in told) == (
        caches, not caches,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("family", "installed", "dtype", "said"),
    [
        ("qwen3_next", [], "float32", "of qwen3_next in bfloat16 alone"),
        ("qwen3_5_text", [], "bfloat16", "torchvision"),
        ("qwen3_5_text", ["torchvision"], "float32", "of qwen3_5_text in bfloat16 alone"),
        ("qwen3_5", ["torchvision"], "float32", "of qwen3_5_text in bfloat16 alone"),
        ("qwen3_next", [], "bfloat16", None),
        ("qwen3_5_text", ["torchvision"], "bfloat16", None),
    ],
)
def test_what_is_refused_here_and_by_a_server(folder, monkeypatch, family, installed, dtype, said):
    monkeypatch.setattr(vllm_limits, "find_spec", lambda name: name in installed or None)
    path = folder(family)
    args = serve.parser().parse_args([path, "--dtype", dtype])
    if said is None:
        check_computed(vllm_limits.language_config(path), dtype=dtype)
        assert "--no-enable-prefix-caching" in serve.command(args, on_gpu=False)
        return
    config = EngineConfig(kind="vllm", dtype=dtype)
    for ask in (
        lambda: VllmEngine(path, config, stop_token_ids=[1]),
        lambda: serve.command(args, on_gpu=False),
    ):
        with pytest.raises(EngineError, match=said) as caught:
            ask()
        assert "data.engine.kind=hf" in caught.value.fix
