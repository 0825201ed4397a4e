"""`luffy-pl chat MODEL`: talk to a run or a model folder in a terminal, or through a pipe."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

from luffy_pl.chat.dialogue import ChatOptions, Dialogue
from luffy_pl.chat.opened import DTYPES, Wanted, open_model
from luffy_pl.commands.parser import CommandParser
from luffy_pl.errors import DataError, LuffyError, printable
from luffy_pl.process.quiet import quiet

PROMPT, MORE = "> ", "... "
NEW, QUIT = "/new", "/quit"
HINT = f"{NEW} begins again, {QUIT} or Ctrl-D ends, Ctrl-C stops an answer, \\ continues a line"


def main(argv: Sequence[str]) -> int:
    """Answer each line; in a pipe the answers alone are on standard output."""
    args = parser().parse_args(argv)
    options = ChatOptions(args.temperature, args.top_p, args.seed, args.max_tokens)
    quiet()
    wanted = Wanted(kind=args.engine, dtype=args.dtype, max_model_len=args.max_model_len)
    model = open_model(args.model, wanted)
    is_terminal = sys.stdin.isatty()
    sys.stderr.write(f"{model.title}; {model.max_model_len} tokens\n")
    if is_terminal:
        sys.stderr.write(f"{HINT}\n")
        # Stopping an answer, which may happen often, must not count as ending the command.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    conversation = Dialogue(model, options, system_prompt=args.system)
    try:
        for line in messages(lines(is_terminal=is_terminal)):
            if line == QUIT:
                break
            if line == NEW:
                conversation.begin_again()
                continue
            try:
                answer(conversation, line)
            except LuffyError as error:
                if not is_terminal:
                    raise
                sys.stderr.write(f"{printable(str(error))}\n")
    finally:
        model.engine.close()
    return 0


def parser() -> argparse.ArgumentParser:
    """What the options are."""
    made = CommandParser(
        prog="luffy-pl chat",
        description="Talk to a trained policy. Each line is a message, also in a pipe.",
        epilog=f"In a terminal: {HINT}.",
    )
    made.add_argument(
        "model",
        help="run folder, with @PHASE for an earlier checkpoint; model folder, or hub name",
    )
    made.add_argument(
        "--engine", choices=["auto", "hf", "vllm"], default=Wanted.kind,
        help="auto takes vLLM where it is installed",
    )  # fmt: skip
    made.add_argument("--system", help='system message; "" has none; default: that of the training')
    made.add_argument("--temperature", type=float, default=ChatOptions.temperature)
    made.add_argument("--top-p", type=float, default=ChatOptions.top_p)
    made.add_argument("--seed", type=int, default=ChatOptions.seed)
    made.add_argument("--max-tokens", type=int, help="of an answer; default: what the window holds")
    made.add_argument("--max-model-len", type=int, help="tokens of the whole conversation")
    made.add_argument("--dtype", choices=DTYPES, help="default: that of the run or the folder")
    return made


def answer(conversation: Dialogue, text: str) -> None:
    """Write the answer as it is sampled."""
    with closing(conversation.answer(text)) as pieces, suppress(KeyboardInterrupt):
        for piece in pieces:
            sys.stdout.write(printable(piece, keep="\n\t"))
            sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    if conversation.was_cut:
        sys.stderr.write("[the answer was cut off]\n")


def lines(*, is_terminal: bool) -> Iterator[str]:
    """Lines of standard input as they come; Ctrl-D and Ctrl-C at the prompt end them."""
    if not is_terminal:
        try:
            yield from (line.removesuffix("\n") for line in sys.stdin)
        except UnicodeDecodeError:
            raise DataError("standard input", "is not text", fix="send UTF-8") from None
        return
    with suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history)
    with suppress(EOFError, KeyboardInterrupt):
        prompt = PROMPT
        while True:
            line = input(prompt)
            prompt = MORE if line.endswith("\\") else PROMPT
            yield line
    sys.stdout.write("\n")


def messages(lines: Iterator[str]) -> Iterator[str]:
    """Lines put together where one ends with a backslash; empty ones are left out."""
    text = ""
    for line in lines:
        text += line
        if text.endswith("\\"):
            text = text[:-1] + "\n"
            continue
        if text.strip():
            yield text
        text = ""
    if text.strip():
        yield text
