"""Real cells: one crashes, the sweep is killed while another runs, the same command ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from luffy_pl.bundled import resolve
from luffy_pl.run_dir.read import read_metrics
from luffy_pl.sweep.state import JOURNAL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NUM_PHASES = 3
GOOD = [f"{gamma}-seed0" for gamma in (0.1, 0.2, 0.3, 0.4, 0.5)]
BAD = "broken-seed0"


@pytest.fixture
def grid_file(tmp_path):
    few = tmp_path / "few.jsonl"
    rows = Path(resolve("bundled:heldout.jsonl")).read_text().splitlines(keepends=True)
    few.write_text("".join(rows[:4]))
    tiny = {
        "data": {
            "engine": {"kind": "hf"},
            "rollout": {"num_phases": NUM_PHASES, "prompts_per_phase": 2, "group_size": 2},
            "benchmarks": [{"name": "few", "source": {"path": str(few)}}],
        },
        "evaluation": {"every_n_phases": None},
        "checkpoint": {"every_n_phases": 1},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    grid = {
        "name": "tiny",
        "base": ["conf/quickstart.yaml", str(tmp_path / "tiny.yaml")],
        "axes": {
            "gamma": {
                "key": "model.objective.off_policy.shaping.gamma",
                "values": [0.1, 0.2, 0.3, 0.4, 0.5],
            }
        },
        "cells": {"broken": {"set": {"data.train.path": str(tmp_path / "no.jsonl")}}},
        "run_dir": str(tmp_path / "runs"),
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(grid))
    return path


def kill_when(file, grid_file):
    """Start the sweep, and kill its whole process group when `file` exists."""
    process = subprocess.Popen(
        [sys.executable, "-m", "luffy_pl.cli", "sweep", str(grid_file)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not file.exists():
        assert process.poll() is None, "the sweep ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_five_results_one_named_failure_and_nothing_run_twice(luffy_pl, grid_file, tmp_path):
    runs = tmp_path / "runs"
    kill_when(runs / GOOD[1] / "checkpoints" / "last.ckpt", grid_file)
    done = luffy_pl("sweep", grid_file)
    assert done.returncode == 1
    assert f"1 of 6 cells did not finish: {BAD}. Fix:" in done.stderr
    assert "no.jsonl" in done.stderr

    events = [json.loads(line) for line in (runs / JOURNAL).read_text().splitlines()]
    started = Counter(line["cell"] for line in events if line["event"] == "started")
    assert started == {**dict.fromkeys(GOOD, 1), BAD: 1, GOOD[1]: 2}
    finished = [line["cell"] for line in events if line["event"] == "finished"]
    assert finished == GOOD
    results = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in results[1:]] == GOOD

    # The cell that was killed went on from its checkpoint: no phase was trained twice.
    console = (runs / GOOD[1] / "console.log").read_text().splitlines()
    commands = [line for line in console if line.startswith("$ ")]
    assert len(commands) == 2
    assert commands[1].endswith("--resume=true")
    lines = map(json.loads, (runs / GOOD[1] / "metrics.jsonl").read_text().splitlines())
    trained = Counter(line["step"] for line in lines if "on_off_metrics/on_score" in line)
    assert trained[1] == 1
    assert sorted(read_metrics(runs / GOOD[1] / "metrics.jsonl")[0])[-1] == NUM_PHASES
