"""`luffy-pl bench KIND`: a part of a run, timed beside its limit, as one line of JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError

Default = int | float | bool | str | None
Arguments = dict[str, tuple[Default, str]]
"""By name, the default and what the option means; False is a switch, None has to be given."""

THREADS = {"threads": (1, "threads of PyTorch")}
ARGUMENTS: Arguments = {
    "vocab": (32000, "words of the model's vocabulary"),
    "hidden": (256, "hidden size; the feed-forward layers have twice as much"),
    "layers": (4, "decoder layers"),
    "prompts": (4, "prompts of a step, with 8 responses each"),
    "prompt-len": (64, "tokens of a prompt"),
    "max-len": (512, "longest response in tokens; lengths are log-uniform from a 16th of it"),
    "micro-rows": (8, "most rows of the longest length in a micro-batch"),
    "steps": (5, "optimizer steps measured, after two that are not"),
    "seed": (0, "of weights, tokens and lengths"),
    **THREADS,
}
LOGPROB: Arguments = {
    "tokens": (2048, "tokens to be predicted"),
    "hidden": (256, "hidden size"),
    "vocab": (32000, "words"),
    "steps": (5, "passes measured, after two that are not"),
    **THREADS,
}
ROLLOUT: Arguments = {
    "prompts": (16, "prompts, with 8 answers each"),
    "prompt-len": (24, "tokens of a prompt"),
    "max-len": (32, "tokens of an answer"),
    "steps": (5, "rounds measured, after two that are not"),
    **THREADS,
}
SYNC: Arguments = {
    "layers": (30, "decoder layers; hidden size, heads and vocabulary are SmolLM2-135M's"),
    "steps": (5, "syncs measured, after two that are not"),
    **THREADS,
}
SCORING: Arguments = {
    "prompts": (128, "problems, with 8 answers each"),
    "length": (29000, "characters in front of an answer"),
    "workers": (2, "processes that compare expressions"),
    "steps": (3, "rounds measured, after two that are not"),
}
PHASE: Arguments = {
    "model": (None, "folder of the model, or bundled:base"),
    "data": (None, "rows of prompts with gold answers, or bundled:train.jsonl"),
    "prompts": (16, "prompts of a phase"),
    "group": (8, "answers to a prompt"),
    "max-new": (48, "longest answer in tokens"),
    "phases": (8, "phases of the run; the first two do not count"),
    "steps": (2, "optimizer steps of a phase"),
    "lr": (1e-6, "learning rate"),
    "anywhere": (False, "an answer is right where the gold stands anywhere in it, not in a box"),
    "engine": ("hf", "engine that samples: hf or vllm"),
}
START: Arguments = {
    "steps": (3, "rounds measured; a round starts every kind of process once"),
    **THREADS,
}
KINDS: dict[str, tuple[str, Arguments]] = {
    "learner": (
        "an optimizer step on fixed random responses, beside its matrix products",
        ARGUMENTS,
    ),
    "logprob": ("the head, forward and backward, beside its matrix products", LOGPROB),
    "rollout": ("the engine as a run asks it, beside vLLM's LLM.generate", ROLLOUT),
    "sync": ("weights to the engine, beside one copy of them", SYNC),
    "phase": ("whole phases of a run on one thread: sampled, graded, trained, synced", PHASE),
    "scoring": ("answers graded, beside reading them alone", SCORING),
    "start": ("the start of a command, beside the imports it cannot avoid", START),
}


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    parser = CommandParser(
        prog="luffy-pl bench", description="Measure speed and memory; prints one line of JSON."
    )
    commands = parser.add_subparsers(required=True, dest="kind")
    for kind, (text, arguments) in KINDS.items():
        command = commands.add_parser(kind, help=text, description=f"Time {text}.")
        for name, (default, meaning) in arguments.items():
            add_option(command, name, default, meaning)
        command.add_argument("--table", action="store_true", help="a line for each figure instead")
    values = vars(parser.parse_args(argv))
    kind, as_table = values.pop("kind"), values.pop("table")
    for name, value in values.items():
        if type(value) is int and value < (0 if name == "seed" else 1):
            raise ConfigError(f"--{name}", "is too small", value=value, fix="use 1 or more")
    found = {**measured(kind, argparse.Namespace(**values)), "args": values}
    sys.stdout.write(table(found) if as_table else json.dumps(found) + "\n")
    return 0


def add_option(command: argparse.ArgumentParser, name: str, default: Default, meaning: str) -> None:
    """An option of the type of its default."""
    how: dict[str, Any]
    match default:
        case None:
            how = {"required": True, "help": meaning}
        case False:
            how = {"action": "store_true", "help": meaning}
        case _:
            how = {"type": type(default), "default": default, "help": f"{meaning} ({default})"}
    command.add_argument(f"--{name}", **how)


def measured(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """What the module of a kind finds, with so many threads."""
    import torch

    measure = importlib.import_module(f"luffy_pl.bench.{kind}").measure
    before = torch.get_num_threads()
    torch.set_num_threads(getattr(args, "threads", before))
    try:
        found: dict[str, Any] = measure(args)
    finally:
        torch.set_num_threads(before)
    return found


def table(found: Mapping[str, Any]) -> str:
    """A line for each figure."""
    return "".join(
        f"{name:<24}{f'{value:.4g}' if isinstance(value, float) else value}\n"
        for name, value in found.items()
    )
