"""What the bench of starting reads off a process, and what starting imports."""

import os
import re
import subprocess
import sys

import pytest

from luffy_pl.bench import start


def watch(code):
    return start.watch([sys.executable, "-c", "import sys, time\n" + code], os.environ)


def test_the_first_line_and_the_first_phase_are_timed():
    found = watch(
        "print('loading', file=sys.stderr, flush=True); time.sleep(0.2)\n"
        "print('generate 0/4', file=sys.stderr, flush=True); time.sleep(0.2)\n"
    )
    assert 0 < found.first_line_s < found.first_phase_s - 0.1
    assert found.cpu_s < 0.3


def test_cpu_seconds_are_those_of_the_process():
    assert watch("while time.process_time() < 0.4: pass").cpu_s > 0.35


def test_a_start_that_fails_is_not_a_fast_one():
    with pytest.raises(RuntimeError, match="no such setting"):
        watch("sys.exit('no such setting')")


def test_rounds_become_medians(monkeypatch):
    cpu_s = iter([9.0, *(1.0, 7.0, 7.5, 12.0), *(1.0, 9.0, 8.0, 14.0), *(2.0, 8.0, 9.0, 13.0)])
    monkeypatch.setattr(start, "engines", lambda: ["hf"])
    monkeypatch.setattr(start, "watch", lambda *_: start.TimedStart(next(cpu_s), 0.25, 11.0))
    assert start.measure(start.argparse.Namespace(steps=3, threads=1)) == {
        "bench": "start",
        "torch_cpu_s": 1.0,
        "floor_cpu_s": 8.0,
        "print_config_cpu_s": 8.0,
        "hf_cpu_s": 13.0,
        "print_config_over_floor_cpu_s": 0.5,  # of 0.5, -1 and 1
        "hf_over_floor_cpu_s": 5.0,  # of 5, 5 and 5
        "first_line_s": 0.25,
        "hf_first_phase_s": 11.0,
    }


LATER = {
    "transformers", "torchmetrics.functional", "torchmetrics.text", "matplotlib", "tensorboard",
    "accelerate", "vllm", "peft", "datasets", "pyarrow", "math_verify", "latex2sympy2_extended",
    "aiohttp", "openai", "ray", "wandb", "mlflow", "torchvision", "luffy_pl.estimate.estimate",
}  # fmt: skip


def test_a_run_says_at_once_what_it_loads_and_loads_little_before_its_settings_are_read():
    command = [sys.executable, "-X", "importtime", "-m", "luffy_pl.cli", "fit"]
    command += ["--config", "bundled:quickstart", "--no.such", "1"]
    environment = {name: value for name, value in os.environ.items() if "RANK" not in name}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2, done.stderr[-500:]
    lines = [re.sub(r"import time:.*\|\s*", "", line) for line in done.stderr.splitlines()]
    [last] = [at for at, line in enumerate(lines) if line.startswith("luffy-pl: error [2] no.such")]
    first = lines.index("luffy-pl fit: loading torch, Lightning and transformers")
    assert "torch._C" not in lines[:first]
    assert {"torch", "lightning.pytorch.cli", "luffy_pl.training.module"} < set(lines[first:last])
    assert set(lines[:last]) & LATER == set()
