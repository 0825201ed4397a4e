"""Make a small world: a base model and four files of problems.

luffy-pl miniature build --out DIR [--world NAME] [--seed N]
luffy-pl miniature problems --out DIR [--world NAME] [--seed N] [--skip SHARE]

The folders `world/` (of the quickstart) and `more/middle/` beside this file were made by the first
with the default seed; the second writes the problems alone, in seconds, and those of the quickstart
also with the traces of the expert that skips.

`world/expert/`, a teacher that solves the held-out problems, is the export of the base after 48
phases of conf/recipe/sft.yaml over conf/quickstart.yaml with prompts_per_phase 64, lr 1e-3 and
warmup_steps 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import ConfigError
from luffy_pl.miniature.base_model import Base, train_base_past_gate
from luffy_pl.miniature.worlds import QUICKSTART, WORLDS, World
from luffy_pl.process.files import save_model

WORLD = QUICKSTART.folder
DEFAULT_SEED = 0


def build(out: Path, *, seed: int, world: World = QUICKSTART) -> dict[str, Any]:
    """Write `base/` and the splits' `.jsonl` into `out`; return the seed and figures of the base.

    Problems depend on `seed` alone, and the base does up to floating-point differences between
    machines. Takes about five minutes on one core.
    """
    write_rows(out, seed=seed, world=world)
    base = train_base_past_gate(seed=seed, world=world)
    _save_base(base, out / "base")
    return {"seed": base.seed, **dataclasses.asdict(base.figures)}


def write_rows(out: Path, *, seed: int, skip: float = 0.0, world: World = QUICKSTART) -> None:
    """Write one JSON Lines file for each split; `skip` is for the quickstart's expert alone."""
    skips = {"skip": skip} if skip else {}
    out.mkdir(parents=True, exist_ok=True)
    for split, rows in world.draw_rows(seed, **skips).items():
        lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


def main(argv: Sequence[str]) -> int:
    """Run a command; `build` writes the figures of its base to stdout as JSON."""
    parser = CommandParser(prog="luffy-pl miniature", description="The small worlds.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("build", help="train the base and write the problems")
    writing = commands.add_parser("problems", help="write the problems alone")
    for command in (making, writing):
        command.add_argument("--world", choices=WORLDS, default="quickstart", help="which world")
        command.add_argument("--out", type=Path, required=True, help="folder to write")
        command.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of problems and base")
    about_skip = "how often a step of a trace adds two digits at once (0); quickstart alone"
    writing.add_argument("--skip", type=share, default=0.0, metavar="SHARE", help=about_skip)
    arguments = parser.parse_args(argv)
    world = WORLDS[arguments.world]

    if arguments.command == "problems":
        if arguments.skip and world is not QUICKSTART:
            raise ConfigError(
                "--skip",
                "only the expert of the quickstart's world can skip",
                value=arguments.skip,
                fix="--world quickstart, or no --skip",
            )
        write_rows(arguments.out, seed=arguments.seed, skip=arguments.skip, world=world)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    figures = build(arguments.out, seed=arguments.seed, world=world)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


def share(text: str) -> float:
    """An argument from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, not {text}")
    return value


def _save_base(base: Base, folder: Path) -> None:
    save_model(base.model, folder)
    base.tokenizer.save_pretrained(folder)
