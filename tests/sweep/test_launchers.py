"""The same sweep through Ray, and through submitit as on SLURM."""

import builtins
import json
import signal
import time
from pathlib import Path

import pytest

from luffy_pl.cli import main
from luffy_pl.sweep import launch_slurm
from luffy_pl.sweep.state import JOURNAL, read_state
from sweep.hanging import HANGING, is_running, sweep_process

METHODS = {"good": {}, "bad": {"set": {"fake.do": "crash"}}}


def check(path, tmp_path, capsys, launcher):
    """One finishes, one fails by name; then only that one is tried again."""
    assert main(["sweep", str(path), "--launcher", launcher, "--max_parallel", "2"]) == 1
    assert "1 of 2 cells did not finish: bad-seed0" in capsys.readouterr().err
    state = read_state(tmp_path / "runs")
    assert (state["good-seed0"].event, state["bad-seed0"].event) == ("finished", "failed")
    assert state["bad-seed0"].exit_code == 1
    assert (tmp_path / "exp" / "results.csv").exists()
    assert main(["sweep", str(path), "--launcher", launcher]) == 1
    lines = (tmp_path / "runs" / JOURNAL).read_text().splitlines()
    started = [line["cell"] for line in map(json.loads, lines) if line["event"] == "started"]
    assert started.count("good-seed0") == 1
    assert started.count("bad-seed0") == 2


@pytest.fixture
def ray_here(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray(grid_file, fake_cells, ray_here, tmp_path, capsys):
    check(grid_file(axes={"method": METHODS}, seeds=[0]), tmp_path, capsys, "ray")


@pytest.fixture
def submitit_here(monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr(launch_slurm, "CLUSTER", "local")
    monkeypatch.setattr(launch_slurm, "POLL_S", 0.1)


@pytest.mark.slow
def test_submitit(grid_file, fake_cells, submitit_here, tmp_path, capsys):
    path = grid_file(axes={"method": METHODS}, seeds=[0], slurm={"minutes": 1, "partition": "x"})
    check(path, tmp_path, capsys, "slurm")

    # The sweep was killed after the job was submitted: its result is read, nothing is submitted.
    [job] = {
        line["reference"]
        for line in map(json.loads, (tmp_path / "runs" / JOURNAL).read_text().splitlines())
        if line["event"] == "started" and line["cell"] == "good-seed0"
    }
    journal = tmp_path / "runs" / JOURNAL
    status = read_state(tmp_path / "runs")["good-seed0"]
    started = {"event": "started", "cell": "good-seed0", "fingerprint": status.fingerprint}
    journal.write_text(json.dumps({**started, "reference": job}) + "\n")
    path = grid_file(axes={"method": {"good": {}}}, seeds=[0], slurm={"minutes": 1})
    assert main(["sweep", str(path), "--launcher", "slurm"]) == 0
    attempts = (tmp_path / "runs" / "good-seed0" / "attempts.jsonl").read_text().splitlines()
    assert len(attempts) == 1
    assert read_state(tmp_path / "runs")["good-seed0"].event == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package"),
    [pytest.param("ray", "ray", marks=pytest.mark.long), ("slurm", "submitit")],
)
def test_sigterm_ends_the_cell_wherever_it_runs(grid_file, tmp_path, launcher, package):
    pytest.importorskip(package)
    path = grid_file(axes={"method": HANGING}, seeds=[0], slurm={"minutes": 2})
    process, pid = sweep_process(path, tmp_path, "hang-seed0", launcher=launcher)
    assert is_running(pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, process.stderr.read()
    process.stderr.close()
    deadline_s = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not is_running(pid)
    assert read_state(tmp_path / "runs")["hang-seed0"].event == "interrupted"
    # It was asked to end, not killed.
    assert "KeyboardInterrupt" in (tmp_path / "runs" / "hang-seed0" / "console.log").read_text()


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_is_not_installed_is_named_with_its_extra(
    grid_file, fake_cells, monkeypatch, capsys, launcher, package
):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["sweep", str(grid_file(seeds=[0])), "--launcher", launcher]) == 2
    assert f"pip install 'luffy-pl[sweep-{launcher}]'" in capsys.readouterr().err


def test_a_machine_without_slurm_says_so(grid_file, fake_cells, monkeypatch, capsys):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(Path(__file__).parent))
    assert main(["sweep", str(grid_file(seeds=[0])), "--launcher", "slurm"]) == 2
    assert "start the sweep where sbatch is" in capsys.readouterr().err
