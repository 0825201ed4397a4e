"""Families that people train, and the overlays of conf/model, in runs with tiny random weights."""

import json

import pytest
from policy.miniature import RUN, TRAINED, model_folder

# The family of each overlay of conf/model.
OVERLAYS = {
    "qwen2.5_math": "qwen2",
    "qwen3": "qwen3",
    "qwen3_thinking": "qwen3",
    "qwen3.5": "qwen3_5_text",
    "llama3": "llama",
    "gemma3": "gemma3_text",
    "smollm3": "smollm3",
    "olmo3": "olmo3",
    "granite": "granite",
}
OTHERS = sorted(set(TRAINED) - set(OVERLAYS.values()))
# What an overlay says of a window does not fit tiny weights.
SMALL = [
    "--data.engine.kind", "hf", "--data.engine.max_model_len", "96",
    "--data.rollout.max_response_tokens", "48", "--data.train.max_prompt_tokens", "null",
]  # fmt: skip
SWITCHES = "{% if enable_thinking is defined or thinking is defined %}{% endif %}"


def often(names, usual):
    """All of them; in `make test` only the usual ones."""
    return [name if name in usual else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.fixture
def trained(luffy_pl, tmp_path):
    """Three phases of a family; the largest difference of engine and trainer in nats."""

    def train(family, *files):
        model, run = model_folder(family, tmp_path / "model"), tmp_path / "run"
        template = model / "chat_template.jinja"
        template.write_text(SWITCHES + template.read_text())
        overlays = [word for file in files for word in ("--config", file)]
        done = luffy_pl(
            "fit", *RUN, *overlays, *SMALL, "--model.policy.path", model, "--run_dir", run
        )
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        gaps = [row["sync/logprob_gap_nats"] for row in rows if "sync/logprob_gap_nats" in row]
        assert len(gaps) >= 3
        assert max(row.get("actor/grad_norm", 0) for row in rows) > 0
        return max(gaps)

    return train


@pytest.mark.parametrize("overlay", often(OVERLAYS, {"qwen3.5"}))
def test_an_overlay_trains(trained, overlay):
    assert trained(OVERLAYS[overlay], f"conf/model/{overlay}.yaml") < 1e-4


@pytest.mark.parametrize("family", often(OTHERS, {"gpt_oss"}))
def test_a_family_trains(trained, family):
    assert trained(family) < 1e-4
