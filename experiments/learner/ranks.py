r"""How much sooner two ranks have trained a phase than one, one thread each.

    python experiments/learner/ranks.py

Supervised phases of conf/gsm8k_smollm2.yaml, so that nothing but training is timed: one process,
then two with weights sharded by FSDP2 over gloo, on the same rows. Beside it what the machine
allows: how much more two processes multiply than one, which is 2 only where each has a core of its
own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from luffy_pl.run_dir.read import read_metrics

PHASES = 3
PROMPTS = 32
MICRO_BATCH_TOKENS = 4096  # the larger, the fewer times weights are gathered
CONFIGS = ("conf/gsm8k_smollm2.yaml", "conf/recipe/sft.yaml")
TWO_RANKS = "conf/hardware/cpu_two_ranks.yaml"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
PRODUCTS = "from luffy_pl.bench.machine import gemm_flops; print([gemm_flops() for _ in range(40)])"


def main() -> None:
    """Print seconds of a phase for both, their ratio, and the ratio of products."""
    one_s, two_s = train_seconds(*CONFIGS), train_seconds(*CONFIGS, TWO_RANKS)
    one, two = products(1), products(2)
    sys.stdout.write(
        f"train, 1 rank    {one_s:8.2f} s\ntrain, 2 ranks   {two_s:8.2f} s\n"
        f"ratio            {one_s / two_s:8.2f}\n"
        f"products, 1      {one / 1e9:8.1f} GFLOP/s\nproducts, 2      {two / 1e9:8.1f} GFLOP/s\n"
        f"ratio            {two / one:8.2f}\n"
    )


def train_seconds(*configs: str) -> float:
    """Median over the phases after the first."""
    run_dir = Path("outputs/ranks") / str(len(configs))
    command = [sys.executable, "-m", "luffy_pl.cli", "fit"]
    for config in configs:
        command += ["--config", config]
    settings = {
        "run_dir": run_dir,
        "overwrite": True,
        "data.benchmarks": [],
        "data.rollout.num_phases": PHASES,
        "data.rollout.prompts_per_phase": PROMPTS,
        "model.optimizer.micro_batch_tokens": MICRO_BATCH_TOKENS,
    }
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    subprocess.run(command, env=ONE_THREAD, check=True, stdout=subprocess.DEVNULL)
    phases, _ = read_metrics(run_dir / "metrics.jsonl")
    seconds = [
        row["timing_s/train"] for _, row in sorted(phases.items()) if "timing_s/train" in row
    ]
    return statistics.median(seconds[1:])


def products(processes: int) -> float:
    """FLOP/s of so many processes together, while all of them multiply."""
    command = [sys.executable, "-c", "import torch; torch.set_num_threads(1); " + PRODUCTS]
    started = [
        subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return sum(statistics.median(json.loads(one.communicate()[0])) for one in started)


if __name__ == "__main__":
    main()
