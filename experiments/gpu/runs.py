"""Short runs of the miniature world by the command line, with each engine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from skipping import Skipped, needs_gpu

from luffy_pl.run_dir.read import read_metrics

PHASES = {"cuda": 10, "cpu": 2}


def fit(device: str, *args: str, fault: str = "") -> tuple[dict[int, dict[str, float]], str]:
    """The metrics of a run, and what it said."""
    on_gpu = ["--trainer.accelerator", "gpu", "--trainer.devices", "1"] * (device == "cuda")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LUFFY_FAULT": fault}
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [
            sys.executable, "-m", "luffy_pl.cli", "fit", "--config", "conf/quickstart.yaml",
            "--data.rollout.num_phases", str(PHASES[device]), "--data.benchmarks", "[]",
            "--run_dir", str(run_dir), *on_gpu, *args,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr.strip().splitlines()[-1:]
        return read_metrics(run_dir / "metrics.jsonl")[0], done.stderr


def figures(phases: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Agreement of engine and trainer, and the time of a phase."""
    rows = [row for row in phases.values() if "timing_s/phase" in row]
    seconds = sorted(row["timing_s/phase"] for row in rows)
    return {
        "phases": len(rows),
        "phase_s": seconds[len(seconds) // 2],
        "largest_gap_nats": max(row["sync/logprob_gap_nats"] for row in phases.values()),
    }


def quickstart_hf(device: str) -> dict[str, Any]:
    """The quickstart without vLLM."""
    return figures(fit(device, "--data.engine.kind", "hf")[0])


def needs_vllm() -> None:
    """Leave the check out where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise Skipped("vLLM is not installed")


def vllm_sleeps(device: str, *, level: int) -> dict[str, Any]:
    """An engine that gives memory back while the policy trains, and gets new weights each phase."""
    needs_vllm()
    needs_gpu(device)
    return figures(fit(device, *with_vllm(), "--data.engine.sleep_level", str(level))[0])


def vllm_replaced(device: str) -> dict[str, Any]:
    """An engine that breaks in the second phase is replaced, and the run goes on."""
    needs_vllm()
    phases, said = fit(device, *with_vllm(), fault="rollout_dead@phase=1")
    assert "engine" in said, "nothing was said of an engine that broke"
    return figures(phases)


def with_vllm() -> list[str]:
    """Settings of the engine."""
    return ["--data.engine.kind", "vllm", "--data.engine.gpu_memory_utilization", "0.3"]


def trl(device: str) -> dict[str, Any]:
    """The learner beside TRL's on the CPU, by the script that LUFFY_PEER names."""
    if find_spec("trl") is None:
        raise Skipped("TRL is not installed")
    if not (peer := os.environ.get("LUFFY_PEER")):
        raise Skipped("LUFFY_PEER names no script (experiments/learner/README.md)")
    command = [
        sys.executable,
        "experiments/learner/compare.py",
        "--peer",
        peer,
        "--",
        "--steps",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1:]
    words = [line.split() for line in done.stdout.splitlines()[1:]]
    return {f"{name}_ratio": float(rest[-1]) for name, *rest in words if len(rest) == 3}


CHECKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "quickstart_hf": quickstart_hf,
    "vllm_sleep_1": partial(vllm_sleeps, level=1),
    "vllm_sleep_2": partial(vllm_sleeps, level=2),
    "vllm_replaced": vllm_replaced,
    "trl": trl,
}
