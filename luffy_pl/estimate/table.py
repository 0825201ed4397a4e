"""An estimate as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from luffy_pl.estimate.devices import GIB
from luffy_pl.estimate.duration import BANDWIDTH_SHARE, TRAINING_SHARE

HOST = {
    "loading": "whole weights, before training begins",
    "kept": "weights, gradients, optimizer",
    "sleeping": "weights of engines that sleep (data.engine.sleep_level: 1)",
}


def print_estimate(found: Mapping[str, Any]) -> None:
    """Print it."""
    sys.stdout.write("\n".join(table_lines(found)) + "\n")


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """Memory of one device by part, its peaks, a phase, and what does not fit."""
    plan, device, phase = found["plan"], found["device"], found["phase"]
    capacity = device["memory"]
    cut = f", weights cut over {plan['shards']}" if plan["shards"] > 1 else ""
    text = [
        f"{model_line(found)}, {plan['ranks']} x {device['name']} with "
        f"{capacity / GIB:.1f} GiB{cut}",
        "",
        "GiB of one device",
    ]
    for name, size in {**found["training_bytes"], **found["engine_bytes"]}.items():
        text.append(f"  {name:<22}{size / GIB:>8.2f}  {note(name, found)}".rstrip())
    for name, size in found["peak_bytes"].items():
        verdict = "fits" if size <= capacity else "does not fit"
        text.append(f"  {'peak, ' + name:<22}{size / GIB:>8.2f}  {verdict}")
    if found["host_bytes"]:
        text += ["", "GiB of one machine's host, beside its processes"]
    for name, size in found["host_bytes"].items():
        text.append(f"  {name:<22}{size / GIB:>8.2f}  {HOST[name]}")
    text += [
        "",
        f"a phase, with prompts of {plan['prompt_tokens']} tokens and answers of "
        f"{found['response_tokens']} on average, {plan['response_tokens']} at most",
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
    if phase["tokens_again"]:
        text.append(
            f"  groups that fail are sampled again: if all do, {phase['tokens_again'] / 1e6:.3f} M "
            f"tokens and {phase['again_s']:.0f} s more"
        )
    text += [""] * bool(found["problems"]) + [f"does not fit: {line}" for line in found["problems"]]
    return text


def model_line(found: Mapping[str, Any]) -> str:
    """The model and how many numbers of it are trained."""
    adapters = f" and {found['adapters'] / 1e6:,.1f} M in adapters" if found["adapters"] else ""
    return f"{found['model']}: {found['parameters'] / 1e6:,.1f} M parameters{adapters}"


def memory_line(found: Mapping[str, Any]) -> str:
    """Both peaks of one device, and whether they fit."""
    peaks, device = found["peak_bytes"], found["device"]
    fits = max(peaks.values()) <= device["memory"]
    each = ", ".join(f"{name} {size / GIB:.2f}" for name, size in peaks.items())
    return (
        f"{each} of {device['memory'] / GIB:.1f} GiB of one {device['name']}: "
        f"{'fits' if fits else 'does not fit'}, by the estimate"
    )


def time_line(found: Mapping[str, Any], *, num_phases: int) -> str:
    """Time of a phase, and of so many: what the device cannot do faster."""
    phase = found["phase"]
    whole_s = num_phases * (phase["generate_s"] + phase["train_s"])
    return (
        f"a phase samples for {in_words(phase['generate_s'])} and trains for "
        f"{in_words(phase['train_s'])} at least, {num_phases} phases for {in_words(whole_s)}, "
        f"by the estimate (answers of {found['response_tokens']} tokens on average; no scoring, no "
        "evaluation"
        + (f"; up to {in_words(phase['again_s'])} more where groups fail" * bool(phase["again_s"]))
        + ")"
    )


def in_words(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def note(name: str, found: Mapping[str, Any]) -> str:
    """What a part depends on."""
    plan = found["plan"]
    again = {True: ", layers recomputed", "selective": ", in part recomputed"}
    most = found["largest_micro_batch_tokens"]
    room = "" if most is None else f" (room for {most})"
    held = found["sequences_together"]
    sequences = "no keys and values" if held is None else f"{held:.0f} sequences"
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
        "engine cache": f"{sequences} of {plan['row_tokens']} tokens{sleeps}",
    }.get(name, "")
