"""Memory and time of a configuration, from the shape of its model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from luffy_pl.errors import ConfigError
from luffy_pl.estimate.advice import problems, room_for_tokens
from luffy_pl.estimate.devices import A100, CPU, GPUS, this_cpu
from luffy_pl.estimate.duration import estimate_phase
from luffy_pl.estimate.memory import (
    engine_parts,
    machine_parts,
    peaks,
    sequences_held,
    training_parts,
)
from luffy_pl.estimate.plan import RowLengths, read_plan, read_shape
from luffy_pl.policy.architecture import read_architecture
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.tensor_parallel import layer_plan
from luffy_pl.training.memory import peak_bytes


def estimate(
    config: Any, options: argparse.Namespace, *, lengths: RowLengths | None = None
) -> dict[str, Any]:
    """All figures: bytes of a device by part, peaks, tokens and seconds of a phase.

    Args:
        lengths: of prompts and traces, where the data was read.
    """
    plan = read_plan(config, lengths)
    # The libraries themselves: what this process took to come here, a run takes too.
    process = float(peak_bytes())
    name = options.device or (A100.name if plan.is_gpu else CPU)
    if plan.is_gpu == (name == CPU):
        raise ConfigError(
            "--device",
            f"does not go with trainer.accelerator={config.trainer.accelerator}",
            value=name,
            fix="estimate for the kind of device that the configuration asks for",
        )
    architecture = read_architecture(config.model.policy.path, config_json=options.config_json)
    lora = config.model.policy.lora
    if plan.tensor_ranks > 1:
        layer_plan(architecture, plan.tensor_ranks)
    shape = read_shape(
        architecture,
        compute_bytes=plan.compute_bytes,
        lora=LoraConfig(**lora) if lora else None,
    )
    device = GPUS[name] if plan.is_gpu else this_cpu(ranks=plan.ranks)
    process = 0.0 if plan.is_gpu else process
    training, engine = training_parts(shape, plan), engine_parts(shape, plan, device)
    if process:
        training["process"] = process
    response_tokens = options.response_tokens or max(1, plan.response_tokens // 2)
    return {
        "model": config.model.policy.path,
        "parameters": shape.parameters,
        "adapters": shape.adapters,
        "device": asdict(device),
        "plan": asdict(plan),
        "training_bytes": training,
        "host_bytes": machine_parts(shape, plan),
        "engine_bytes": engine,
        "peak_bytes": peaks(training, engine, plan),
        "largest_micro_batch_tokens": room_for_tokens(shape, plan, device, process=process),
        "sequences_together": sequences_held(
            shape, plan, engine["engine cache"], tokens=plan.row_tokens
        ),
        "response_tokens": response_tokens,
        "phase": asdict(estimate_phase(shape, plan, device, response_tokens=response_tokens)),
        "problems": problems(shape, plan, device, process=process),
    }
