"""Real cells: one crashes, the sweep is killed while another runs, the same command ends it."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from luffy_pl.bundled import resolve
from luffy_pl.run_dir.read import read_metrics
from luffy_pl.sweep.state import JOURNAL

pytestmark = pytest.mark.slow

NUM_PHASES = 3
BAD = "broken-seed0"


@pytest.fixture(params=[2, pytest.param(5, marks=pytest.mark.long)])
def gammas(request):
    return [0.1, 0.2, 0.3, 0.4, 0.5][: request.param]


@pytest.fixture
def grid_file(tmp_path, gammas):
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
                "values": gammas,
            }
        },
        "cells": {"broken": {"set": {"data.train.path": str(tmp_path / "no.jsonl")}}},
        "run_dir": str(tmp_path / "runs"),
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(grid))
    return path


def kill_when(file, process):
    """Kill the whole process group of a sweep when `file` exists."""
    deadline = time.monotonic() + 300
    while not file.exists():
        assert process.poll() is None, "the sweep ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_results_one_named_failure_and_nothing_run_twice(
    luffy_pl, start, grid_file, gammas, tmp_path
):
    runs, good = tmp_path / "runs", [f"{gamma}-seed0" for gamma in gammas]
    kill_when(runs / good[1] / "checkpoints" / "last.ckpt", start("sweep", grid_file))
    done = luffy_pl("sweep", grid_file)
    assert done.returncode == 1
    assert f"1 of {len(good) + 1} cells did not finish: {BAD}. Fix:" in done.stderr
    assert "no.jsonl" in done.stderr

    events = [json.loads(line) for line in (runs / JOURNAL).read_text().splitlines()]
    started = Counter(line["cell"] for line in events if line["event"] == "started")
    assert started == {**dict.fromkeys(good, 1), BAD: 1, good[1]: 2}
    finished = [line["cell"] for line in events if line["event"] == "finished"]
    assert finished == good
    results = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in results[1:]] == good

    # The cell that was killed went on from its checkpoint: no phase was trained twice.
    console = (runs / good[1] / "console.log").read_text().splitlines()
    commands = [line for line in console if line.startswith("$ ")]
    assert len(commands) == 2
    assert commands[1].endswith("--resume=true")
    lines = map(json.loads, (runs / good[1] / "metrics.jsonl").read_text().splitlines())
    trained = Counter(line["step"] for line in lines if "on_off_metrics/on_score" in line)
    assert trained[1] == 1
    assert sorted(read_metrics(runs / good[1] / "metrics.jsonl")[0])[-1] == NUM_PHASES
