"""`luffy-pl model from-gguf` and `luffy-pl model prepare`: models made ready for training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from luffy_pl.bundled import resolve
from luffy_pl.commands.parser import CommandParser
from luffy_pl.model.from_gguf import convert, find_gguf
from luffy_pl.model.prepare import Preparation, prepare_model


def main(argv: Sequence[str]) -> int:
    """Run one of the two."""
    parser = CommandParser(prog="luffy-pl model", description="Prepare models.")
    commands = parser.add_subparsers(dest="verb", required=True)
    gguf = commands.add_parser("from-gguf", help="convert a GGUF file to a model folder")
    gguf.add_argument(
        "source", help="a .gguf file, or package:NAME for one that an installed package brings"
    )
    gguf.add_argument("--out", type=Path, required=True, help="folder to write")
    gguf.add_argument(
        "--tie", action="store_true",
        help="make embedding and head one matrix again, which quantized files hold as two",
    )  # fmt: skip
    add_prepare(commands.add_parser("prepare", help="window, rope, template, pad and EOS"))
    args = parser.parse_args(argv)
    if args.verb == "from-gguf":
        convert(find_gguf(args.source), args.out, tie=args.tie)
        return 0
    preparation = Preparation(
        rope_theta=args.rope_theta,
        max_positions=args.max_positions,
        chat_template=args.chat_template,
        eos_token=args.eos_token,
        pad_token=args.pad_token,
    )
    changes = prepare_model(resolve(args.source), args.out, preparation)
    sys.stdout.write("\n".join([*changes, f"written: {args.out}"]) + "\n")
    return 0


def add_prepare(command: argparse.ArgumentParser) -> None:
    """Options of `prepare`; what is not given stays as it is."""
    command.add_argument("source", help="model folder or hub name")
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--rope_theta", type=float, help="base of the rotary positions")
    command.add_argument(
        "--max_positions", type=int, help="longest prompt plus response, in tokens"
    )
    command.add_argument("--chat_template", help="Jinja file, such as conf/template/think.jinja")
    command.add_argument("--eos_token", help="token that ends a response")
    command.add_argument("--pad_token", help="token for padding; EOS if the tokenizer has none")
