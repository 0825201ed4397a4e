"""Models that vLLM runs in ways of its own are trained and synchronised as any."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from policy.families import tiny_model

from luffy_pl.bundled import resolve
from luffy_pl.rollout.vllm_defects import has_head, load_as_kept, pack_at_every_load


def test_experts_are_packed_once_at_every_load():
    """vLLM's own method packs when it makes the kernel, and never again."""

    class Experts:
        def process_weights_after_loading(self, layer):
            done.append("pack")

    class Method:
        moe_kernel = None

        def process_weights_after_loading(self, layer):
            done.append("load")
            if self.moe_kernel is None:
                self.moe_kernel = SimpleNamespace(fused_experts=Experts())
                self.moe_kernel.fused_experts.process_weights_after_loading(layer)

    done = []
    pack_at_every_load(Method)
    method = Method()
    for _ in range(3):
        method.process_weights_after_loading(None)
    assert done == ["load", "pack"] * 3


def arrived(model, weights):
    """What a loader of vLLM is given of these weights, and the names that it then says it has."""

    class Loader:
        module = model

        def load_weights(self, weights):
            given.update(weights)
            return set(given)

    given = {}
    load_as_kept(Loader)
    return given, Loader().load_weights(weights)


def model_of(**config):
    model = torch.nn.Module()
    model.embed_tokens = torch.nn.Embedding(2, 2)
    model.config = SimpleNamespace(**config)
    return model


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("place", ["none", "its own", "within"])
def test_a_tied_head_goes_to_a_model_that_has_one(is_tied, place):
    """Another that finds no place is for vLLM to refuse."""
    model = model_of(tie_word_embeddings=is_tied)
    if place == "its own":
        model.lm_head = model.embed_tokens
    elif place == "within":
        model.language_model = torch.nn.Module()
        model.language_model.lm_head = torch.nn.Linear(2, 2)
    assert has_head(model) == (place != "none")
    tied = torch.zeros(1)
    given, _ = arrived(model, [("embed_tokens.weight", tied), ("lm_head.weight", tied)])
    assert ("lm_head.weight" in given) == (not is_tied or place != "none")
    assert "embed_tokens.weight" in given


def test_experts_and_sinks_of_gpt_oss_reach_their_loaders(vllm, monkeypatch):
    """As the second of two ranks, which has the last two of four sinks."""
    monkeypatch.setattr("vllm.distributed.get_tensor_model_parallel_rank", lambda: 1)
    model = model_of(model_type="gpt_oss")
    model.layer = torch.nn.Module()
    model.layer.attn = torch.nn.Module()
    model.layer.attn.sinks = sinks = torch.nn.Parameter(torch.zeros(2, device="meta"))
    loaded = {}
    sinks.weight_loader = lambda own, weight: loaded.update({own: weight.tolist()})
    weights = {
        "self_attn.q_proj.weight": torch.zeros(1),
        "mlp.experts.gate_up_proj": torch.arange(12.0).view(2, 2, 3),
        "mlp.experts.down_proj_bias": torch.tensor([[1.0], [2.0]]),
        "layer.self_attn.sinks": torch.arange(4.0),
    }
    given, names = arrived(model, weights.items())
    assert {name: weight.tolist() for name, weight in given.items()} == {
        "self_attn.q_proj.weight": [0.0],
        "mlp.experts.0.gate_up_proj": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "mlp.experts.1.gate_up_proj": [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]],
        "mlp.experts.0.down_proj_bias": [1.0],
        "mlp.experts.1.down_proj_bias": [2.0],
    }
    assert loaded == {sinks: [2.0, 3.0]}
    assert names == {*given, "layer.attn.sinks"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("qwen3_moe", {"moe_intermediate_size": 32, "head_dim": 32}),  # fused experts
        ("olmo3", {}),  # of transformers, in classes that vLLM changes
        (
            "gpt_oss",
            {"head_dim": 32, "intermediate_size": 64},
        ),  # experts and sinks that it writes where they are
        ("granitemoehybrid", {"mamba_n_heads": 8}),  # no prefix is cached beside a state
        ("gemma2", {"head_dim": 32}),  # a head that is the embedding
    ],
)
def test_a_run_with_the_real_engine(luffy_pl, tmp_path, family, settings):
    pytest.importorskip("vllm", reason="vLLM is an extra")
    folder = tmp_path / "model"
    tiny_model(
        family, vocab_size=27, hidden_size=64, num_attention_heads=2, num_key_value_heads=2,
        eos_token_id=1, pad_token_id=0, **settings,
    ).save_pretrained(folder)  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(resolve("bundled:base")) / name, folder)
    done = luffy_pl(
        "fit", "--config", "conf/quickstart.yaml", "--run_dir", tmp_path / "run",
        "--model.policy.path", folder, "--data.engine.kind", "vllm", "--data.benchmarks", "[]",
        "--data.rollout.num_phases", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
