"""A rank that is killed or stands still ends the others, which say which one it was."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.kill_runs import left_running
from forks import ranks_environments
from recipes.small_runs import SMALL

from luffy_pl.run_dir.read import read_lines

pytestmark = pytest.mark.slow

DEADLINE_S = 8
RUN = [
    "--config", "conf/quickstart.yaml", "--config", "conf/hardware/cpu_two_ranks.yaml", *SMALL,
    "--data.rollout.num_phases", "500", "--evaluation.every_n_phases", "null",
    "--evaluation.before_training", "false", "--data.engine.deadline_s", str(DEADLINE_S),
]  # fmt: skip


def wait_for_phase(run_dir, processes, said, phase=2):
    """Until the ranks train."""
    while not (run_dir / "rollouts" / f"phase-{phase:06}.jsonl").exists():
        assert all(process.poll() is None for process in processes), said()
        time.sleep(0.02)


def ends_with_5(process, said, lost, *, since_s, within_s):
    """The rank that is left, and how long it took."""
    assert process.wait(within_s) == 5, said()
    took_s = time.monotonic() - since_s
    errors = [line for line in said().splitlines() if "luffy-pl: error" in line]
    assert len(errors) == 1, said()
    assert errors[0].startswith(f"luffy-pl: error [5] rank {lost}: "), errors
    assert "--resume continues" in errors[0]
    assert "Traceback" not in said()
    assert took_s < within_s
    return errors[0]


@pytest.mark.case(50)
@pytest.mark.parametrize(
    ("number", "lost"),
    [
        (signal.SIGKILL, 1),
        (signal.SIGSTOP, 1),
        pytest.param(signal.SIGKILL, 0, marks=pytest.mark.long),
        pytest.param(signal.SIGSTOP, 0, marks=pytest.mark.long),
    ],
)
def test_a_rank_that_is_gone_is_named(start, tmp_path, number, lost):
    files = [(tmp_path / f"said-{rank}").open("w+") for rank in (0, 1)]

    def said():
        return "".join(Path(file.name).read_text() for file in files)

    processes = [
        start("fit", *RUN, "--run_dir", tmp_path / "run", env=place, stderr=file)
        for place, file in zip(ranks_environments(2), files, strict=True)
    ]
    try:
        wait_for_phase(tmp_path / "run", processes, said)
        began_s = time.monotonic()
        processes[lost].send_signal(number)
        left = 1 - lost
        line = ends_with_5(
            processes[left], said, lost,
            since_s=began_s, within_s=DEADLINE_S + 10,
        )  # fmt: skip
        error = json.loads((tmp_path / "run" / "error.json").read_text())
        assert (error["exit_code"], error["where"]) == (5, f"rank {lost}")
        if number == signal.SIGKILL:
            assert re.search(rf"got 'process {processes[lost].pid} on ", line)
        assert read_lines(tmp_path / "run" / "metrics.jsonl")
    finally:
        for process in processes:
            process.kill()


@pytest.mark.case(50)
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_lightning_started_is_named_and_none_is_left(work_dir, tmp_path, number):
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "luffy_pl.cli", "fit", *RUN, "--run_dir", tmp_path / "run"],
            cwd=work_dir(), stderr=said, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for_phase(tmp_path / "run", [process], (tmp_path / "said").read_text)
            [child] = children(process.pid)
            began_s = time.monotonic()
            subprocess.run(["kill", f"-{int(number)}", str(child)], check=True)
            ends_with_5(
                process, (tmp_path / "said").read_text, 1,
                since_s=began_s, within_s=DEADLINE_S + 10,
            )  # fmt: skip
            assert left_running(process.pid, within_s=10) == 0
        finally:
            process.kill()
            process.wait()


def children(pid):
    """Processes of the command line that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(parent) == pid and "luffy_pl.cli" in command:
            found.append(int(path.parent.name))
    return found
