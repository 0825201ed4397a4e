"""Saves that fail, the best phase, and runs that go on with other settings."""

import json
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from recipes.small_runs import SMALL
from same_run import differences

from luffy_pl.callbacks.checkpoint import PhaseCheckpoint
from luffy_pl.run_dir import checkpoints as checkpoint_folder
from luffy_pl.run_dir.checkpoints import newest
from luffy_pl.run_dir.read import read_lines, read_metrics

TINY = [
    "--config", "conf/quickstart.yaml", *SMALL,
    "--data.rollout.prompts_per_phase", "2", "--data.rollout.group_size", "2",
    "--checkpoint.every_n_phases", "1",
]  # fmt: skip


@pytest.fixture
def fit(command_line, tmp_path):
    def run(*settings, phases=3):
        return command_line(
            "fit", *TINY, "--data.rollout.num_phases", phases, "--run_dir", tmp_path / "run",
            *settings,
        )  # fmt: skip

    return run


@pytest.fixture
def small_files(monkeypatch):
    """No file may be larger than 200 kB while phases of a range are trained; a state is larger."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def during(phases):
        inner = PhaseCheckpoint.on_train_batch_start

        def limited(self, trainer, module, batch, index):
            soft = 200_000 if module.phases_trained in phases else hard
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            inner(self, trainer, module, batch, index)

        monkeypatch.setattr(PhaseCheckpoint, "on_train_batch_start", limited)

    yield during
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.case(42)
def test_a_run_bears_saves_that_fail(fit, tmp_path, small_files):
    small_files(range(1, 3))
    done = fit("--checkpoint.max_failures", "2", "--checkpoint.every_n_phases", "2", phases=4)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "was not saved" in line]
    # Phase 2 is due, phase 3 is the second try.
    assert warnings == [
        f"phase {phase} was not saved ([Errno 27] File too large); the last checkpoint is that of "
        f"phase 0; failure {number} of 2 that are borne"
        for number, phase in ((1, 2), (2, 3))
    ]
    assert newest(tmp_path / "run" / "checkpoints")[0].phase == 4
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.mark.case(42)
def test_one_failure_too_many_ends_it_with_the_last_checkpoint_whole(fit, tmp_path, small_files):
    small_files(range(1, 9))
    done = fit("--checkpoint.max_failures", "1", phases=4)
    assert done.returncode == 8
    last = done.stderr.splitlines()[-1]
    assert "phase 3 cannot be saved: [Errno 27] File too large" in last
    assert "Fix: make room, then --resume continues from phase 1" in last
    folder = tmp_path / "run" / "checkpoints"
    saved, skipped = newest(folder)
    assert (saved.phase, skipped) == (1, [])
    checkpoint_folder.check_hashes(saved.path)
    assert {path.name for path in folder.iterdir()} == {"phase-000001", "last", "last.ckpt"}


@pytest.mark.case(42)
def test_a_disk_without_room_is_said_before_training(fit, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    done = fit()
    assert done.returncode == 8
    assert "a checkpoint does not fit" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "rollouts").exists()


def test_the_best_phase_is_kept_and_found_again(fit, tmp_path, monkeypatch):
    scores = {1: 0.2, 2: 0.7, 3: 0.7, 4: 0.5, 5: 0.9, 6: 0.1}
    inner = PhaseCheckpoint.on_train_batch_end

    def scored(self, trainer, module, *args):
        trainer.callback_metrics["score"] = torch.tensor(scores[module.phases_trained])
        inner(self, trainer, module, *args)

    monkeypatch.setattr(PhaseCheckpoint, "on_train_batch_end", scored)
    settings = ["--checkpoint.best", "score", "--checkpoint.keep", "1"]
    folder = tmp_path / "run" / "checkpoints"
    assert fit(*settings, phases=6).returncode == 0
    assert [path.name for path in checkpoint_folder.checkpoint_folders(folder)] == [
        "phase-000005", "phase-000006",
    ]  # fmt: skip
    assert (folder / "best").resolve().name == "phase-000005"
    best = {"metric": "score", "value": pytest.approx(0.9)}
    assert checkpoint_folder.read_manifest(folder / "best")["best"] == best

    # Going on from the best, phase 6 is not better: the value was in the checkpoint.
    shutil.rmtree(folder / "phase-000006")
    scores[6] = 0.8
    assert fit(*settings, "--resume", "true", phases=6).returncode == 0
    assert (folder / "best").resolve().name == "phase-000005"
    assert (folder / "last").resolve().name == "phase-000006"


def test_a_metric_that_is_never_logged_is_said(fit):
    done = fit("--checkpoint.best", "actor/grad_nrm", phases=2)
    assert done.returncode == 0
    early = "checkpoint.best: actor/grad_nrm is not logged yet; did you mean actor/grad_norm?"
    assert early in done.stderr.split("phase 2")[0]
    assert "checkpoint.best: actor/grad_nrm was never logged" in done.stderr


def test_the_accuracy_of_no_benchmark_is_refused_before_anything_loads(fit, tmp_path):
    done = fit("--checkpoint.best", "val/test_score/heldut", phases=1)
    assert done.returncode == 2
    assert "checkpoint.best: is the accuracy of no benchmark of this run" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.case(9)
def test_only_what_changed_is_said_and_kept(fit, command_line, tmp_path):
    assert fit(phases=2).returncode == 0
    run_dir = tmp_path / "run"
    shutil.rmtree(run_dir / "checkpoints" / "phase-000002")
    alone = ["fit", "--resume", "--run_dir", run_dir]
    done = command_line(*alone, "--model.optimizer.lr", "1e-5")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("resume:")] == [
        "resume: after phase 1",
        "resume: model.optimizer.lr is now 1e-05, it was 0.0002",
    ]
    assert read_lines(run_dir / "resumes.jsonl") == [
        {"phase": 1, "changed": {"model.optimizer.lr": [0.0002, 1e-05]}}
    ]
    assert sorted(read_metrics(run_dir / "metrics.jsonl")[0]) == [0, 1, 2]
    # From now on that is the run's setting.
    shutil.rmtree(run_dir / "checkpoints" / "phase-000002")
    assert "is now" not in command_line(*alone).stderr


@pytest.mark.case(10)
def test_a_run_killed_before_its_first_checkpoint_begins_again(fit, command_line, tmp_path):
    assert fit(phases=2).returncode == 0
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    done = command_line("fit", "--resume", "true", "--run_dir", tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert "resume: after phase 0" in done.stderr
    assert differences(tmp_path / "run", tmp_path / "killed") == []


@pytest.mark.case(9)
def test_other_data_under_the_same_name_is_refused(fit, tmp_path):
    source = Path(__file__).parents[2] / "luffy_pl" / "miniature" / "world" / "train.jsonl"
    lines = source.read_text().splitlines(keepends=True)
    data = tmp_path / "train.jsonl"
    data.write_text("".join(lines))
    settings = ["--data.train.path", str(data)]
    assert fit(*settings, phases=2).returncode == 0
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "phase-000002")
    data.write_text("".join([lines[1], lines[0], *lines[2:]]))
    done = fit(*settings, "--resume", "true", phases=2)
    assert done.returncode == 2
    assert re.search(
        r"data.train: other prompts, .* 512 prompts, \w+ then, got '512 prompts", done.stderr
    )


@pytest.mark.case(45)
def test_a_changed_byte_of_the_newest_checkpoint_is_not_resumed(fit, tmp_path):
    assert fit(phases=2).returncode == 0
    state = tmp_path / "run" / "checkpoints" / "phase-000002" / "state.ckpt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    done = fit("--resume", "true", phases=2)
    assert done.returncode == 8
    assert "its sha256 differs from the manifest" in done.stderr
    assert f"Fix: remove {state.parent}" in done.stderr


def test_a_checkpoint_may_be_named_in_three_ways(fit, command_line, tmp_path):
    assert fit(phases=1).returncode == 0
    folder = tmp_path / "run" / "checkpoints"
    settings = [
        "--config", "conf/quickstart.yaml", *SMALL, "--data.benchmarks",
        '[{"name": "b", "source": {"path": "bundled:heldout.jsonl", "limit": 2}}]',
    ]  # fmt: skip
    for number, name in enumerate(("last.ckpt", "last", "phase-000001/state.ckpt")):
        run_dir = tmp_path / str(number)
        done = command_line(
            "validate", *settings, "--ckpt_path", folder / name, "--run_dir", run_dir
        )
        assert done.returncode == 0, done.stderr
        results = json.loads((run_dir / "results.json").read_text())
        assert (results["phase"], results["recipe"]) == (1, "luffy")
