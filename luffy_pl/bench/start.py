"""From Enter to the first phase: what starting costs, beside the imports that nothing can avoid.

Each start is a new process, and the kinds take turns, so that all meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

FLOOR = "import torch, transformers, lightning.pytorch.cli"
FLOORS = {"floor": FLOOR, "vllm_floor": f"{FLOOR}; from vllm import LLM"}
FLOOR_OF = {"print_config": "floor", "hf": "floor", "vllm": "vllm_floor"}
# What a run says when its engine is there and its first phase begins.
PHASE = "generate "
# One phase of four short answers: what is measured is the way to it.
CONFIG = {
    "trainer": {"accelerator": "cpu", "devices": 1},
    "model": {"policy": {"path": "bundled:base"}, "optimizer": {"steps_per_phase": 1}},
    "data": {
        "train": {"path": "bundled:train.jsonl"},
        "rollout": {
            "num_phases": 1,
            "prompts_per_phase": 2,
            "group_size": 2,
            "max_response_tokens": 48,  # the traces of the bundled prompts fit
        },
        "engine": {"max_model_len": 96},
    },
}


@dataclass(frozen=True)
class TimedStart:
    """A process from its start to its end; the first line and the first phase as it announced."""

    cpu_s: float
    first_line_s: float | None
    first_phase_s: float | None


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Medians over `steps` rounds; over_floor_cpu_s: CPU time less that of the floor, by round."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(CONFIG))
        made = commands(config, run_dir=Path(folder) / "run")
        watch(made["floor"], environment)  # reads the files that later starts find in memory
        rounds = [
            {name: watch(command, environment) for name, command in made.items()}
            for _ in range(args.steps)
        ]
    cpu_s = {f"{name}_cpu_s": median(one[name].cpu_s for one in rounds) for name in made}
    over = {
        f"{name}_over_floor_cpu_s": median(
            one[name].cpu_s - one[FLOOR_OF[name]].cpu_s for one in rounds
        )
        for name in ("print_config", *engines())
    }
    first_lines = [one["hf"].first_line_s or 0.0 for one in rounds]
    phases = {
        f"{kind}_first_phase_s": median(one[kind].first_phase_s or 0.0 for one in rounds)
        for kind in engines()
    }
    return {
        "bench": "start",
        **cpu_s,
        **over,
        "first_line_s": median(first_lines),
        **phases,
    }


def engines() -> list[str]:
    """The engines that can be started here."""
    return ["hf", "vllm"] if find_spec("vllm") else ["hf"]


def commands(config: Path, *, run_dir: Path) -> dict[str, list[str]]:
    """What is started, by name."""
    floors = dict.fromkeys(FLOOR_OF[name] for name in ("print_config", *engines()))
    fit = [sys.executable, "-m", "luffy_pl.cli", "fit", "--config", str(config)]
    run = [*fit, "--run_dir", str(run_dir), "--overwrite", "true", "--data.engine.kind"]
    return {
        "torch": [sys.executable, "-c", "import torch"],
        **{name: [sys.executable, "-c", FLOORS[name]] for name in floors},
        "print_config": [*fit, "--print_config"],
        **{kind: [*run, kind] for kind in engines()},
    }


def watch(command: Sequence[str], environment: Mapping[str, str]) -> TimedStart:
    """Run a command to its end, listening to what it says on stderr."""
    before_s, started_s = cpu_seconds_of_children(), time.perf_counter()
    first_line_s = first_phase_s = None
    said = []
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(environment),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            now_s = time.perf_counter() - started_s
            first_line_s = now_s if first_line_s is None else first_line_s
            if first_phase_s is None and line.startswith(PHASE):
                first_phase_s = now_s
            said.append(line)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {''.join(said[-1:])}")
    return TimedStart(cpu_seconds_of_children() - before_s, first_line_s, first_phase_s)


def cpu_seconds_of_children() -> float:
    """User and system time of the processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
