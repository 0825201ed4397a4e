"""Cells as processes: none stops another, none runs twice, none outlives the sweep."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest

from luffy_pl.cli import main
from luffy_pl.process import parent
from luffy_pl.process.folder_lock import alone
from luffy_pl.sweep import launch_local, runner
from luffy_pl.sweep.process import CellJob
from luffy_pl.sweep.state import JOURNAL, read_state
from sweep.hanging import HANGING, is_running, sweep_process


def events(tmp_path):
    lines = (tmp_path / "runs" / JOURNAL).read_text().splitlines()
    return [(line["cell"], line["event"]) for line in map(json.loads, lines)]


def attempts(tmp_path, cell):
    text = (tmp_path / "runs" / cell / "attempts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


CRASHING = {"good": {}, "bad": {"set": {"fake.do": "crash"}}, "last": {}}


def test_a_crash_stops_no_other_and_is_named_with_its_last_words(
    grid_file, fake_cells, tmp_path, capsys
):
    path = str(grid_file(axes={"method": CRASHING}, seeds=[0]))
    assert main(["sweep", path]) == 1
    said = capsys.readouterr()
    assert [event for _, event in events(tmp_path)] == [
        "started", "finished", "started", "failed", "started", "finished",
    ]  # fmt: skip
    assert "1 of 3 cells did not finish: bad-seed0. Fix:" in said.err
    assert (
        "bad-seed0: exit code 1: luffy-pl: error [3] no.jsonl: \N{REPLACEMENT CHARACTER}"
        in said.err
    )
    assert "\x1b" not in said.err
    assert "not in the summary: bad-seed0" in said.err
    assert (tmp_path / "exp" / "results.csv").read_text().count("\n") == 5

    # Again: only the one that failed, from its beginning.
    assert main(["sweep", path]) == 1
    assert events(tmp_path)[6:] == [("bad-seed0", "started"), ("bad-seed0", "failed")]
    assert [how["overwrite"] for how in attempts(tmp_path, "bad-seed0")] == [None, "true"]
    assert len(attempts(tmp_path, "good-seed0")) == 1


def test_a_cell_starts_where_the_system_cannot_end_it_with_its_sweep(
    grid_file, fake_cells, tmp_path, monkeypatch
):
    """prctl is Linux's own."""
    monkeypatch.setattr(parent, "LIBC", object())
    monkeypatch.setattr(parent, "HAS_PRCTL", False)
    assert main(["sweep", str(grid_file(seeds=[0]))]) == 0
    assert ("good-seed0", "finished") in events(tmp_path)


def test_what_changed_is_not_run_under_an_old_name(grid_file, fake_cells, tmp_path, capsys):
    assert main(["sweep", str(grid_file(seeds=[0]))]) == 0
    num_events = len(events(tmp_path))
    changed = grid_file(seeds=[0], axes={"method": {"good": {"set": {"fake.accuracy": 0.1}}}})
    for options in ([], ["--dry_run"], ["--summarize"]):
        assert main(["sweep", str(changed), *options]) == 2
        assert "cell good-seed0: its arguments" in capsys.readouterr().err
    # A new label beside the old ones is only added.
    added = {"good": {}, "better": {"set": {"fake.accuracy": 0.7}}, "new": {}}
    assert main(["sweep", str(grid_file(seeds=[0], axes={"method": added}))]) == 0
    assert events(tmp_path)[num_events:] == [("new-seed0", "started"), ("new-seed0", "finished")]


def test_a_dry_run_shows_cost_and_commands_and_runs_nothing(
    grid_file, fake_cells, tmp_path, capsys
):
    path = grid_file(minutes_per_cell=30)
    assert main(["sweep", str(path), "--dry_run", "--max_parallel", "3"]) == 0
    said = capsys.readouterr().out
    assert "tiny: 4 cells, 0 finished, 4 to run; 30.0 min each, 60.0 min in all with 3" in said
    assert (
        f"luffy-pl fit --config {tmp_path}/base.yaml --fake.accuracy=0.7 --seed_everything=1"
        in said
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "3"), ("5", "5")])
def test_cells_share_the_cores(grid_file, fake_cells, tmp_path, monkeypatch, set_by_user, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    assert main(["sweep", str(grid_file(seeds=[0])), "--max_parallel", "2"]) == 0
    assert attempts(tmp_path, "good-seed0")[0]["threads"] == expected
    # Both had started before one ended.
    assert [event for _, event in events(tmp_path)][:2] == ["started", "started"]


def test_sigterm_ends_the_cell_and_the_sweep_goes_on_later(grid_file, fake_cells, tmp_path, capsys):
    path = grid_file(axes={"method": HANGING}, seeds=[0])
    process, pid = sweep_process(path, tmp_path, "hang-seed0")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    process.stderr.close()
    assert not is_running(pid)
    assert events(tmp_path)[-1] == ("hang-seed0", "interrupted")
    assert main(["sweep", str(path), "--dry_run"]) == 0
    assert "--resume=true" in capsys.readouterr().out


def test_no_cell_outlives_a_sweep_that_was_killed(grid_file, tmp_path):
    path = grid_file(axes={"method": HANGING}, seeds=[0])
    process, pid = sweep_process(path, tmp_path, "hang-seed0")
    process.kill()  # the sweep alone, not its process group
    process.wait()
    process.stderr.close()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "the cell is still running"
        time.sleep(0.05)
    assert read_state(tmp_path / "runs")["hang-seed0"].event == "started"
    with alone(tmp_path / "runs", "sweep"):
        pass


def test_a_slurm_job_that_may_run_is_not_run_beside(grid_file, fake_cells, tmp_path, capsys):
    path = grid_file(seeds=[0])
    assert main(["sweep", str(path)]) == 0
    journal = tmp_path / "runs" / JOURNAL
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text(json.dumps({**lines[0], "reference": "17_0"}) + "\n")
    assert main(["sweep", str(path)]) == 8
    assert "good-seed0: may still be running" in capsys.readouterr().err


def test_times_are_said_as_people_say_them():
    assert [runner.duration(s) for s in (59, 600, 36000)] == ["59 s", "10.0 min", "10.0 h"]
    assert runner.total_seconds(5, 10.0, 2) == 30.0


def test_a_sweep_takes_a_grid_or_a_folder(command_line):
    done = command_line("sweep")
    assert done.returncode == 2
    assert "takes a grid file" in done.stderr
    assert "--dry_run" in command_line("sweep", "--help").stdout


@pytest.mark.parametrize(
    ("exit_code", "event"),
    [
        (0, "finished"),
        (1, "failed"),
        (7, "failed"),
        # By the kernel, by a handler of the cell's own, and by a launcher that knows no more.
        (-9, "interrupted"),
        (130, "interrupted"),
        (143, "interrupted"),
        (None, "interrupted"),
    ],
)
def test_a_cell_that_was_asked_to_end_did_not_fail(exit_code, event):
    assert runner.outcome_event(exit_code) == event


def test_a_signal_while_a_cell_begins_leaves_it_interrupted(monkeypatch, tmp_path):
    def start(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch_local, "start_process", start)
    told = []
    watch = SimpleNamespace(
        started=lambda job: told.append("started"),
        ended=lambda job, ended: told.append(ended.exit_code),
    )
    job = CellJob("a", ("true",), tmp_path, tmp_path / "console.log")
    with pytest.raises(KeyboardInterrupt):
        launch_local.launch([job], max_parallel=1, watch=watch)
    assert told == ["started", None]
