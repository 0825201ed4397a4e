"""Whole phases of a run: `luffy_pl.fit` on prompts and a model that are given."""

from __future__ import annotations

import argparse
import json
import resource
import sys
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

from luffy_pl.api.run import fit
from luffy_pl.bench.machine import WARM_UP
from luffy_pl.bundled import resolve
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.policy.head import KEPT
from luffy_pl.training.memory import MAXRSS_BYTES

MIB = 2**20
MICRO_BATCH_TOKENS = 16384
ANYWHERE = Path(__file__).with_name("anywhere.py")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Medians over phases after two; peak memory is that of the process that trained.

    phase_s: seconds from the end of a phase to that of the next; phase_cpu_s: CPU seconds.
    mean_tokens: of an answer, over all phases.
    """
    if args.phases <= WARM_UP:
        raise ConfigError(
            "--phases",
            f"leaves none after the first {WARM_UP}, which do not count",
            value=args.phases,
            fix=f"use {WARM_UP + 1} or more",
        )
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(settings(args)))
        # What the run says would stand in front of the figures.
        with redirect_stdout(sys.stderr):
            run = fit(
                config,
                resolve("bundled:recipe/dr_grpo"),
                overrides={"run_dir": str(Path(folder) / "run")},
                plugins=[ANYWHERE] if args.anywhere else [],
            )
        phases = [row for row in run.metrics if "timing_s/phase" in row]
    counted = phases[WARM_UP:]
    return {
        "side": "luffy_pl",
        **{
            f"{name}_s": median(row[f"timing_s/{name}"] for row in counted)
            for name in ("phase", "phase_cpu", "generate", "train", "sync")
        },
        "phases": len(counted),
        "mean_tokens": mean(row["response_length/mean"] for row in phases),
        "peak_rss_mib": peak_of_children() // MIB,
    }


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The configuration of the run: Dr. GRPO without a deviation, AdamW without decay."""
    grader = {"grader": "anywhere"} if args.anywhere else {"think_end": None}
    return {
        "cpu_threads": 1,
        "loggers": [],  # beside metrics.jsonl
        "trainer": {"accelerator": "cpu", "devices": 1},
        "model": {
            "policy": {"path": args.model},
            "optimizer": {
                "lr": args.lr,
                "weight_decay": 0.0,
                "steps_per_phase": args.steps,
                "micro_batch_tokens": micro_batch_tokens(args.model),
            },
        },
        "data": {
            "train": {"path": args.data},
            "rollout": {
                "num_phases": args.phases,
                "prompts_per_phase": args.prompts,
                "group_size": args.group,
                "max_response_tokens": args.max_new,
            },
            "engine": {"kind": args.engine},
            "reward": grader,
        },
    }


def micro_batch_tokens(model: str) -> int:
    """So many tokens that their logits can be kept, which saves one product of four."""
    config = Path(resolve(model)) / "config.json"
    try:
        vocab = int(json.loads(config.read_text())["vocab_size"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "--model", "has no config.json with vocab_size", value=model, fix="give a model folder"
        ) from error
    return min(MICRO_BATCH_TOKENS, KEPT["cpu"] // vocab)


def peak_of_children() -> int:
    """Most memory that one process held of those that were started here and have ended."""
    return MAXRSS_BYTES * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
