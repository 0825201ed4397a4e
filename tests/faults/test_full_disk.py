"""A disk that takes nothing more: borne while it lasts, said once, and an error if it stays so."""

import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from recipes.small_runs import SMALL
from same_run import differences

from luffy_pl.callbacks.checkpoint import PhaseCheckpoint
from luffy_pl.callbacks.ledger import Ledger
from luffy_pl.run_dir.read import read_lines

TINY = [
    "--config", "conf/quickstart.yaml", *SMALL,
    "--data.rollout.prompts_per_phase", "2", "--data.rollout.group_size", "2",
    "--data.rollout.num_phases", "4", "--checkpoint.every_n_phases", "9",
    "--evaluation.every_n_phases", "2", "--heartbeat.every_s", "0.01",
    "--data.benchmarks", '[{"name": "b", "source": {"path": "bundled:heldout.jsonl", "limit": 2}}]',
]  # fmt: skip


@pytest.fixture
def full(monkeypatch):
    """No file may grow beyond 400 bytes while phases of a range are trained and logged."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def during(phases):
        inner, save = Ledger.on_train_batch_start, PhaseCheckpoint.on_train_batch_end

        def limited(self, trainer, module, batch, index):
            soft = 400 if module.phases_trained in phases else hard
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            inner(self, trainer, module, batch, index)

        def roomy(self, trainer, module, *args):
            if module.phases_trained not in phases:  # of the checkpoint this is not the test
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                save(self, trainer, module, *args)

        monkeypatch.setattr(Ledger, "on_train_batch_start", limited)
        monkeypatch.setattr(PhaseCheckpoint, "on_train_batch_end", roomy)
        try:
            yield
        finally:  # pytest may write into a file, too
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    return during


@pytest.mark.case(47)
def test_what_a_full_disk_refused_is_written_when_it_has_room(command_line, tmp_path, full):
    assert command_line("fit", *TINY, "--run_dir", tmp_path / "whole").returncode == 0
    with full(range(1, 3)):
        done = command_line("fit", *TINY, "--run_dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    refused = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert len(refused) == 1, done.stderr
    assert "File too large" in refused[0]
    assert "the disk takes files again: all" in done.stderr
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    assert scalars(tmp_path / "run") == scalars(tmp_path / "whole")


@pytest.mark.case(47)
def test_a_disk_that_stays_full_ends_with_8_and_the_names_of_what_is_lost(
    command_line, tmp_path, full
):
    with full(range(1, 5)):
        done = command_line("fit", *TINY, "--run_dir", tmp_path / "run")
    assert done.returncode == 8
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("luffy-pl: error [8] ")
    assert "other files: could not be written (File too large)" in last
    # Lines are whole.
    steps = [line["step"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")]
    assert len(steps) == (tmp_path / "run" / "metrics.jsonl").read_text().count("\n")


def test_an_error_of_the_disk_outside_a_run_is_one_line(command_line, tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        done = command_line("miniature", "problems", "--out", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    [line] = done.stderr.splitlines()
    assert done.returncode == 8
    assert "cannot be written (File too large)" in line


@pytest.mark.slow
def test_a_log_on_a_full_disk_ends_no_run_and_a_result_there_is_an_error(start, tmp_path):
    """As `luffy-pl ... > log 2>&1` makes them."""
    with Path("/dev/full").open("w") as full, (tmp_path / "said").open("w+") as said:
        run = start("fit", *TINY, "--run_dir", tmp_path / "run", stdout=full, stderr=full)
        assert run.wait(120) == 0
        assert (tmp_path / "run" / "checkpoints" / "phase-000004").is_dir()
        for command in (["report", tmp_path / "run"], ["fit", *TINY, "--print_config"]):
            assert start(*command, stdout=full, stderr=said).wait(60) == 8
        said.seek(0)
        assert said.read() == 2 * (
            "luffy-pl: error [8] disk: cannot be written (No space left on device). "
            "Fix: make room on that disk, or name another folder\n"
        )


def scalars(run_dir):
    """Number of values of each scalar of TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(run_dir / "tb"), size_guidance={"scalars": 0})
    shown.Reload()
    found = {tag: len(shown.Scalars(tag)) for tag in shown.Tags()["scalars"]}
    assert found
    return found
