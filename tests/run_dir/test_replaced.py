"""`--overwrite` costs the earlier run nothing before the new one has trained."""

import pytest
from recipes.small_runs import SMALL

FIT = ["fit", "--config", "conf/quickstart.yaml", *SMALL, "--data.rollout.num_phases", "1"]
OVERWRITE = ["--overwrite", "true"]


def files(folder):
    """Content of everything a run is made of, by its place."""
    found = [folder / "config.yaml", folder / "metrics.jsonl"]
    found += [
        file for name in ("checkpoints", "rollouts", "tb") for file in folder.glob(f"{name}/**/*")
    ]
    return {str(file): file.read_bytes() for file in found if file.is_file()}


@pytest.fixture
def run(command_line, tmp_path):
    folder = tmp_path / "run"
    assert command_line(*FIT, "--run_dir", folder).returncode == 0
    return folder


def test_a_run_that_cannot_start_leaves_the_one_that_was_there(run, command_line, monkeypatch):
    before = files(run)
    wrong = {
        "a setting": (["--model.optimizer.lr", "-1"], 2),
        "a file": (["--data.train.path", "no.jsonl"], 3),
    }
    for what, (settings, code) in wrong.items():
        done = command_line(*FIT, *OVERWRITE, *settings, "--run_dir", run)
        assert done.returncode == code, what
        assert files(run) == before, what

    # Its first phase is sampled, then the reward fails.
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("luffy_pl.training.module.LuffyModule.training_step", fail)
    assert command_line(*FIT, *OVERWRITE, "--run_dir", run).returncode == 1
    assert files(run) == before
    assert not (run / ".replaced").exists()


def test_a_run_that_trains_replaces_it(run, command_line):
    before = files(run)
    done = command_line(*FIT, *OVERWRITE, "--seed_everything", "1", "--run_dir", run)
    assert done.returncode == 0, done.stderr
    assert files(run) != before
    assert "seed_everything: 1" in (run / "config.yaml").read_text()
    assert not (run / ".replaced").exists()


def test_what_a_killed_start_had_set_aside_comes_back_first(run, command_line):
    before = files(run)
    aside = run / ".replaced"
    aside.mkdir()
    for name in ("config.yaml", "metrics.jsonl", "checkpoints", "rollouts", "tb"):
        (run / name).rename(aside / name)
    (run / "metrics.jsonl").write_text("")
    done = command_line(*FIT, *OVERWRITE, "--data.train.path", "no.jsonl", "--run_dir", run)
    assert done.returncode == 3
    assert files(run) == before
