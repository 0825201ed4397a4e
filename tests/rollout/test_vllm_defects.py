"""Models that vLLM runs in ways of its own are trained and synchronised as any."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from policy.families import tiny_model

from luffy_pl.bundled import resolve
from luffy_pl.rollout.vllm_defects import pack_at_every_load


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


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("qwen3_moe", {"moe_intermediate_size": 32, "head_dim": 32}),  # fused experts
        ("olmo3", {}),  # of transformers, in classes that vLLM changes
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
