"""Runs that train adapters alone: the base stays, vLLM samples from the merged weights, resume."""

import pytest
import torch
from kill import kill_when
from same_run import differences, final_state
from transformers import AutoModelForCausalLM

from luffy_pl.bundled import resolve
from luffy_pl.run_dir.read import read_metrics

pytestmark = pytest.mark.slow

SHORT = [
    "fit", "--config", "conf/quickstart.yaml", "--config", "conf/hardware/lora.yaml",
    "--model.optimizer.lr", "0.005",
    "--data.benchmarks", "[]",
    "--data.rollout.num_phases", "5",
    "--checkpoint.every_n_phases", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(luffy_pl, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "run"
    done = luffy_pl(*SHORT, "--run_dir", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_adapters_move_and_the_base_does_not(run_dir):
    saved = final_state(run_dir)
    weights = saved["state_dict"]
    base = AutoModelForCausalLM.from_pretrained(resolve("bundled:base")).state_dict()
    prefix, adapters = "policy.language_model.", 0
    for name, weight in weights.items():
        if ".lora_" in name:
            adapters += 1
            assert weight.abs().max() > 1e-3, name
        else:
            plain = name.removeprefix(prefix).replace(".base_layer", "")
            assert torch.equal(weight, base[plain]), name
    [optimizer] = saved["optimizer_states"]
    assert len(optimizer["state"]) == adapters == 2 * 7 * 2


def test_every_sync_was_proved(run_dir):
    metrics, _ = read_metrics(run_dir / "metrics.jsonl")
    gaps = [row["sync/logprob_gap_nats"] for row in metrics.values()]
    assert len(gaps) == 6
    assert max(gaps) < 1e-4


@pytest.mark.long
@pytest.mark.case(9, 43)
def test_killed_and_resumed_gives_the_same_numbers(run_dir, start, true_start, tmp_path):
    """By a new Python: nothing of the run may depend on the process that began it."""
    checkpoint = tmp_path / "cut" / "checkpoints" / "phase-000002"
    kill_when(start(*SHORT, "--run_dir", tmp_path / "cut"), checkpoint.exists)
    resumed = true_start("fit", "--resume", "--run_dir", tmp_path / "cut")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert differences(run_dir, tmp_path / "cut") == []


@pytest.mark.parametrize("lora", ["null", '{"rank": 4}'])
def test_a_checkpoint_of_other_adapters_is_one_line(run_dir, command_line, tmp_path, lora):
    checkpoint = ["--ckpt_path", run_dir / "checkpoints" / "last.ckpt", "--run_dir", tmp_path]
    resumed = ["--resume", "true", "--run_dir", run_dir]
    for args in (checkpoint, resumed):
        done = command_line(*SHORT, "--model.policy.lora", lora, *args)
        assert done.returncode == 2
        assert "model.policy.lora: is not that of" in done.stderr
        assert "Fix: use {'rank': 16, 'alpha': 32.0, 'target_modules': None}" in done.stderr
