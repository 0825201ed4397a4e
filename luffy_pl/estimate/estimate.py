"""`luffy-pl estimate`: memory and time of a configuration, before anything is loaded."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from luffy_pl.errors import ConfigError

DEVICES = ("a100-80g", "h100-80g", "cpu")
DESCRIPTION = """Memory and time of `luffy-pl fit` with the same arguments, from the shape of the
model; no weights are loaded. Exit code 1 if it does not fit."""


def main(argv: Sequence[str]) -> int:
    """Estimate and print; 1 if something does not fit."""
    parser = argparse.ArgumentParser(
        prog="luffy-pl estimate",
        description=DESCRIPTION,
        usage="luffy-pl estimate --config FILE [--config FILE] [--dotted.key value] [options]",
        allow_abbrev=False,
    )
    parser.add_argument("--device", choices=DEVICES, help="default: by trainer.accelerator")
    parser.add_argument("--config_json", help="of the model, where model.policy.path is not here")
    parser.add_argument("--response_tokens", type=int, help="mean answer (half of the longest)")
    parser.add_argument("--json", action="store_true", help="one line instead of a table")
    own, of_fit = parser.parse_known_args(argv)
    if own.response_tokens is not None and own.response_tokens < 1:
        raise ConfigError("--response_tokens", "is too small", value=own.response_tokens, fix="1")
    from luffy_pl.run.composition import compose

    found = estimate(compose(["fit", *of_fit]), own)
    if own.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        from luffy_pl.estimate.table import show

        show(found)
    return 1 if found["problems"] else 0


def estimate(config: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All figures: bytes of a device by part, peaks, tokens and seconds of a phase."""
    from luffy_pl.estimate.advice import problems, room_for_tokens
    from luffy_pl.estimate.devices import A100, CPU, GPUS, this_cpu
    from luffy_pl.estimate.duration import phase_of
    from luffy_pl.estimate.memory import (
        engine_parts,
        host_parts,
        peaks,
        token_cache,
        training_parts,
    )
    from luffy_pl.estimate.plan import read_plan, read_shape
    from luffy_pl.policy.architecture import read_architecture
    from luffy_pl.policy.lora import LoraConfig
    from luffy_pl.policy.tensor_parallel import layer_plan
    from luffy_pl.training.memory import peak_bytes

    plan = read_plan(config)
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
        "host_bytes": host_parts(shape, plan),
        "engine_bytes": engine,
        "peak_bytes": peaks(training, engine, plan),
        "largest_micro_batch_tokens": room_for_tokens(shape, plan, device, process=process),
        "sequences_together": engine["engine cache"] / plan.row_tokens / token_cache(shape, plan),
        "response_tokens": response_tokens,
        "phase": asdict(phase_of(shape, plan, device, response_tokens=response_tokens)),
        "problems": problems(shape, plan, device, process=process),
    }
