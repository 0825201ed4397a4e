"""Two commands in one folder: the second is refused while the first lives, and reading is not."""

import os
import signal
import time

import pytest
from recipes.small_runs import SMALL

from luffy_pl.run_dir.checkpoints import newest
from luffy_pl.run_dir.read import read_lines

pytestmark = pytest.mark.slow

LONG = [
    "--config", "conf/quickstart.yaml", *SMALL, "--data.rollout.num_phases", "2000",
    "--data.rollout.prompts_per_phase", "2", "--data.rollout.group_size", "2",
    "--checkpoint.every_n_phases", "1", "--heartbeat.every_s", "0.1",
]  # fmt: skip


@pytest.mark.case(48)
def test_a_run_that_lives_is_left_alone_and_one_that_was_killed_goes_on(start, luffy_pl, tmp_path):
    run_dir = tmp_path / "run"
    first = start("fit", *LONG, "--run_dir", run_dir)
    time.sleep(0.3)
    while not (run_dir / ".fit.lock").exists():  # a busy machine may be slower
        assert first.poll() is None
    refused(luffy_pl("fit", *LONG, "--run_dir", run_dir), first)
    wait_for_phase(first, run_dir, 2)
    for how in (["--resume", "true"], ["--overwrite", "true"]):
        refused(luffy_pl("fit", *LONG, "--run_dir", run_dir, *how), first)
    for command in ("status", "report"):
        done = luffy_pl(command, run_dir)
        assert done.returncode == 0, done.stderr
    assert first.poll() is None

    first.kill()
    again = start("fit", "--resume", "--run_dir", run_dir)
    saved = newest(run_dir / "checkpoints")[0].phase
    wait_for_phase(again, run_dir, saved + 2)
    again.send_signal(signal.SIGTERM)
    assert again.wait(60) == 143
    assert not (run_dir / ".fit.lock").exists()
    # Nobody wrote between the lines of another.
    steps = [line["step"] for line in read_lines(run_dir / "metrics.jsonl")]
    assert steps == sorted(steps)


def refused(done, owner):
    assert done.returncode == 8, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("luffy-pl: error")]
    assert (
        f"is in use by another luffy-pl, got 'process {owner.pid} on {os.uname().nodename}'" in line
    )
    assert "Traceback" not in done.stderr


def wait_for_phase(process, run_dir, phase):
    while not (run_dir / "rollouts" / f"phase-{phase:06}.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)


def test_answers_of_two_evaluations_are_not_mixed(start, luffy_pl, tmp_path):
    settings = [
        "--config", "conf/quickstart.yaml", *SMALL, "--run_dir", tmp_path / "run",
        "--data.benchmarks",
        '[{"name": "b", "source": {"path": "bundled:heldout.jsonl"}, "samples_per_problem": 64,'
        ' "temperature": 1.0}]',
    ]  # fmt: skip
    first = start("validate", *settings)
    while not (tmp_path / "run" / ".validate.lock").exists():
        assert first.poll() is None
    refused(luffy_pl("validate", *settings), first)
    first.kill()
