"""Sampling a phase while the one before trains: the same run where the weights are the same."""

import shutil

import pytest

from luffy_pl.experience import one_ahead
from luffy_pl.run_dir.read import read_metrics
from recipes.small_runs import SMALL

SETTINGS = [
    "--config", "conf/quickstart.yaml",
    "--config", "conf/recipe/truncated_importance_sampling.yaml",
    *SMALL,
    "--data.rollout.num_phases", "3", "--evaluation.before_training", "false",
    "--evaluation.every_n_phases", "null", "--checkpoint.every_n_phases", "2",
]  # fmt: skip
OVERLAP = ["--config", "conf/hardware/one_step_off.yaml"]
# Weight decay and learning rate 0: the policy of every phase is the one before it.
STILL = ["--model.optimizer.lr", "1e-30", "--model.optimizer.weight_decay", "0"]


@pytest.fixture
def fit(command_line, tmp_path):
    def run(name, *extra):
        done = command_line("fit", *SETTINGS, *extra, "--run_dir", tmp_path / name)
        assert done.returncode == 0, done.stderr[-2000:]
        return read_metrics(tmp_path / name / "metrics.jsonl")[0]

    return run


def timeless(metrics):
    """What a run computed: all but its times, and how old its rollouts were."""
    left_out = ("timing_s/", "throughput/", "ledger/seconds", "sync/staleness_phases")
    return {
        phase: {name: value for name, value in row.items() if not name.startswith(left_out)}
        for phase, row in metrics.items()
    }


def staleness(metrics):
    return [row["sync/staleness_phases"] for phase, row in metrics.items() if phase]


def test_with_staleness_0_it_is_the_synchronous_run(fit, monkeypatch):
    """The same thread, begun only when the weights it needs are there."""
    wanted = fit("sync")
    monkeypatch.setattr(
        one_ahead.OneAhead,
        "take",
        lambda self, number: one_ahead._Begun(self._make, number).result(),
    )
    found = fit("thread", *OVERLAP)
    assert timeless(found) == timeless(wanted)
    assert staleness(found) == staleness(wanted) == [0.0, 0.0, 0.0]


def test_where_weights_stand_still_so_does_the_difference(fit):
    """Also where a finished run trains one phase more, sampled with its last weights."""
    longer = [*STILL, "--data.rollout.num_phases", "4"]
    wanted = timeless(fit("sync", *longer))
    found = fit("overlap", *OVERLAP, *STILL)
    last = wanted.pop(4)
    assert timeless(found) == wanted
    assert staleness(found) == [0.0, 1.0, 1.0]
    extended = fit("overlap", *OVERLAP, *longer, "--resume", "true")
    assert timeless(extended) == {**wanted, 4: last}
    assert staleness(extended) == [0.0, 1.0, 1.0, 0.0]


def test_a_resumed_run_samples_its_first_phase_again(fit, tmp_path):
    fit("run", *OVERLAP)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "phase-000003")
    assert staleness(fit("run", *OVERLAP, "--resume", "true")) == [0.0, 1.0, 0.0]


REFUSED = {
    "nothing in the objective corrects it": ["--model.objective.on_policy.mismatch_cap", "null"],
    "asks the policy about it": [
        "--model.objective.kl.coef", "0.1", "--model.objective.kl.place", "reward",
    ],
    "would wait for each other": [
        "--data.engine.kind", "vllm", "--data.engine.tensor_parallel_size", "2",
    ],
    "asks the other ranks": ["--data.advantage.kind", "batch_std"],
    "puts the engine to sleep": ["--data.engine.kind", "vllm", "--data.engine.sleep_level", "1"],
    "fills data.rollout.imitation_buffer": [
        "--data.rollout.expert_traces_per_group", "0", "--data.rollout.imitation_buffer", "4",
        "--model.objective.sft.coef", "1.0",
    ],
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_contradicts_it_is_refused(command_line, tmp_path, why):
    done = command_line("fit", *SETTINGS, *OVERLAP, *REFUSED[why], "--run_dir", tmp_path)
    assert done.returncode == 2
    assert "data.rollout.overlap" in done.stderr
    assert why in done.stderr
