"""An estimate as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from luffy_pl.estimate.devices import GIB
from luffy_pl.estimate.duration import BANDWIDTH_SHARE, TRAINING_SHARE


def print_estimate(found: Mapping[str, Any]) -> None:
    """Print it."""
    sys.stdout.write("\n".join(table_lines(found)) + "\n")


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """Memory of one device by part, its peaks, a phase, and what does not fit."""
    plan, device, phase = found["plan"], found["device"], found["phase"]
    capacity = device["memory"]
    cut = f", weights cut over {plan['shards']}" if plan["shards"] > 1 else ""
    adapters = f" and {found['adapters'] / 1e6:,.1f} M in adapters" if found["adapters"] else ""
    text = [
        f"{found['model']}: {found['parameters'] / 1e6:,.1f} M parameters{adapters}, "
        f"{plan['ranks']} x {device['name']} with {capacity / GIB:.1f} GiB{cut}",
        "",
        "GiB of one device",
    ]
    for name, size in {**found["training_bytes"], **found["engine_bytes"]}.items():
        text.append(f"  {name:<22}{size / GIB:>8.2f}  {note(name, found)}".rstrip())
    for name, size in found["peak_bytes"].items():
        verdict = "fits" if size <= capacity else "does not fit"
        text.append(f"  {'peak, ' + name:<22}{size / GIB:>8.2f}  {verdict}")
    if host := sum(found["host_bytes"].values()):
        text.append(f"  {'on the host':<22}{host / GIB:>8.2f}  weights, gradients, optimizer")
    text += [
        "",
        f"a phase, with prompts of {plan['prompt_tokens']} tokens and answers of "
        f"{found['response_tokens']}",
    ]
    text.append(
        f"  {phase['rows']} rows; {phase['sampled_tokens'] / 1e6:.3f} M tokens sampled, "
        f"{phase['trained_tokens'] / 1e6:.3f} M trained"
    )
    text.append(
        f"  generate {phase['generate_s']:.0f} s, train {phase['train_s']:.0f} s, if training "
        f"reaches {TRAINING_SHARE:.0%} of the FLOP/s"
    )
    text.append(
        f"  and decoding {BANDWIDTH_SHARE:.0%} of the bandwidth of the device: not measured"
    )
    text += [""] * bool(found["problems"]) + [f"does not fit: {line}" for line in found["problems"]]
    return text


def note(name: str, found: Mapping[str, Any]) -> str:
    """What a part depends on."""
    plan = found["plan"]
    again = {True: ", layers recomputed", "selective": ", in part recomputed"}
    most = found["largest_micro_batch_tokens"]
    room = "" if most is None else f" (room for {most})"
    sleeps = "; asleep while training" if plan["sleeps"] else ""
    sleeps = "; on devices of its own" if plan["engine_is_elsewhere"] else sleeps
    return {
        "optimizer": "AdamW, two moments",
        "gathered weights": "embedding, head, two layers and a gradient",
        "activations": f"{plan['micro_batch_tokens']} tokens at once{room}"
        f"{again.get(plan['recomputes'], '')}",
        "head": "one tile of logits"
        if found["adapters"]
        else "its gradient in float32, one tile of logits",
        "process": "Python and libraries, as measured here",
        "engine cache": f"{found['sequences_together']:.0f} sequences of {plan['row_tokens']} "
        f"tokens{sleeps}",
    }.get(name, "")
