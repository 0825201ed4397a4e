"""Runs in which something breaks, through the command line: what is left, and what is said."""

import json

import pytest
import torch

from luffy_pl.process.faults import VARIABLE
from luffy_pl.run_dir.read import read_metrics

pytestmark = pytest.mark.slow

SMALL = [
    "fit", "--config", "conf/quickstart.yaml",
    "--data.engine.kind", "hf",
    "--data.benchmarks", "[]",
    "--data.rollout.num_phases", "3",
    "--data.rollout.prompts_per_phase", "4",
    "--data.rollout.group_size", "3",
    "--model.optimizer.steps_per_phase", "1",
]  # fmt: skip
NOT_SAME = ("timing_s/", "throughput/", "ledger/seconds", "rollout/engines_replaced")


@pytest.fixture
def fit(command_line, monkeypatch, tmp_path):
    def run(fault, *settings, code=0):
        monkeypatch.setenv(VARIABLE, fault)
        folder = tmp_path / (fault.partition("@")[0] or "whole")
        done = command_line(*SMALL, *settings, "--run_dir", folder)
        assert done.returncode == code, done.stderr
        return folder, done.stderr

    return run


def metrics(folder):
    return read_metrics(folder / "metrics.jsonl")[0]


def results(folder):
    """Everything of a run that does not depend on the clock."""
    numbers = {
        step: {name: value for name, value in row.items() if not name.startswith(NOT_SAME)}
        for step, row in metrics(folder).items()
    }
    rollouts = {
        file.name: [without_ms(line) for line in file.read_text().splitlines()]
        for file in (folder / "rollouts").iterdir()
    }
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return numbers, rollouts, {name: weight.sum().item() for name, weight in weights.items()}


def without_ms(line):
    row = json.loads(line)
    row["verdict"].pop("ms")
    return row


@pytest.mark.case(25, 26, 32)
def test_a_run_whose_engine_breaks_or_hangs_is_the_run_that_was_not_disturbed(fit):
    whole, _ = fit("")
    expected = results(whole)
    assert metrics(whole)[3]["train/steps_left_out"] == 0
    broken, said = fit("sync_fail@step=1,rollout_dead@step=1")
    assert "weights did not arrive (LUFFY_FAULT); once more" in said
    assert metrics(broken)[2]["rollout/engines_replaced"] == 1
    assert results(broken) == expected
    hung, _ = fit("rollout_hang@step=2", "--data.engine.deadline_s", "2")
    assert results(hung) == expected
    assert "_sleep_for_ever" in (hung / "logs" / "hang-engine.txt").read_text()


@pytest.mark.case(29, 38, 41)
def test_empty_answers_a_bad_step_and_little_memory_are_survived(fit):
    folder, said = fit("rollout_empty@step=0,nan_loss@step=1,oom@step=0")
    assert "out of memory: from now on 8192 tokens in a forward pass" in said
    found = metrics(folder)
    assert found[1]["rollout/empty"] == 1.0
    assert found[2]["rollout/empty"] < 1.0
    assert [found[step]["train/steps_left_out"] for step in (1, 2, 3)] == [0, 1, 1]
    assert "actor/grad_norm" not in found[2]  # not finite is not a number to draw
    [kept] = (folder / "debug").iterdir()
    assert torch.load(kept, weights_only=True)["phase"] == 2


ENDS = {
    # name: (fault, settings, exit code, words)
    "engine dies twice": (
        "rollout_dead@step=0,rollout_dead@step=0", [], 5, ["data.engine", "sampling failed twice"],
    ),
    "answers missing": ("rollout_short@step=0", [], 5, ["prompt 0: 1 of 2"]),
    "half of the weights": (
        "sync_fail@step=0,sync_fail@step=0", [], 5, ["weights did not arrive twice"],
    ),
    "old weights": ("sync_skip@step=1", [], 5, ["disagree by"]),
    "engine without numbers": (
        "nan_logprob@step=0", ["--model.objective.old_logprob", "sampler"], 7, ["not finite"],
    ),
    "not finite": (
        "nan_loss@step=0", ["--model.optimizer.non_finite.policy", "raise"], 7,
        ["phase 1", "the loss is not finite", "debug"],
    ),
    "no memory": ("oom@step=0,oom@step=0", [], 9, ["micro_batch_tokens", "set it to 4096"]),
}  # fmt: skip


@pytest.mark.case(25, 30, 31, 32, 33, 38, 41)
@pytest.mark.parametrize("name", ENDS)
def test_what_cannot_be_mended_ends_the_run_in_one_line(fit, name):
    fault, settings, code, words = ENDS[name]
    folder, said = fit(fault, *settings, code=code)
    [line] = [line for line in said.splitlines() if line.startswith("luffy-pl: error")]
    assert f"error [{code}]" in line
    assert "Fix: " in line
    assert "Traceback" not in said
    for word in words:
        assert word in line
    error = json.loads((folder / "error.json").read_text())
    assert error["exit_code"] == code
    assert f"{error['where']}: {error['what']}" in line
    assert error["fix"] in line
    assert "Traceback" in (folder / "logs" / "traceback.txt").read_text()


@pytest.mark.case(40)
def test_rewards_that_are_all_equal_teach_nothing_and_break_nothing(fit):
    alone = ["--config", "conf/recipe/on_policy.yaml", "--model.objective.entropy.coef", "0"]
    folder, said = fit(
        "",
        *alone,
        "--data.train.path",
        "bundled:longer.jsonl",
        "--data.train.require_trace",
        "false",
    )
    assert said.count("in every group all rewards are equal") == 1
    for row in metrics(folder).values():
        assert row.get("reward/frac_zero_std", 1.0) == 1.0
        assert row.get("actor/grad_norm", 0.0) == 0.0


def test_a_defect_is_one_line_too_and_its_traceback_is_kept(fit, monkeypatch):
    from luffy_pl.experience.datamodule import LuffyDataModule

    def collect(self, phase):
        raise KeyError("deep inside")

    monkeypatch.setattr(LuffyDataModule, "collect", collect)
    folder, said = fit("", code=1)
    [line] = [line for line in said.splitlines() if line.startswith("luffy-pl: error")]
    assert "error [1] a defect: 'deep inside'" in line
    assert str(folder / "logs" / "traceback.txt") in line
    assert "Traceback" not in said
    assert json.loads((folder / "error.json").read_text())["kind"] == "KeyError"
    shown = fit("", "--overwrite", "true", "--debug", code=1)[1]
    assert "Traceback" in shown
