"""`luffy-pl traces generate FILE --teacher.model M --out OUT`: expert traces from any teacher."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luffy_pl.bundled import resolve
from luffy_pl.config.command_options import parse, sections_parser
from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError, StorageError, first_line
from luffy_pl.process.folder_lock import alone
from luffy_pl.reward.reward import RewardConfig, build_verifier
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.traces.settings import TeacherConfig

PLACES = {
    "file": "data.train.path",
    "source": "data.train",
    "reward": "data.reward",
    "engine": "data.engine",
}
SECONDS_PER_LINE = 5.0


def main(argv: Sequence[str]) -> int:
    """Ask for every prompt that --out does not hold yet."""
    if not argv or argv[0] != "generate":
        if argv and argv[0] not in ("-h", "--help"):
            raise ConfigError("traces", "is no verb", value=argv[0], fix="traces generate")
        sys.stdout.write("usage: luffy-pl traces generate FILE --teacher.model M --out OUT\n")
        return 0
    options = parse_options(argv[1:])
    from luffy_pl.traces import generate

    source = dataclasses.replace(options.source, path=resolve(options.source.path))
    config = dataclasses.replace(options.teacher, model=resolve(options.teacher.model))
    verifier = build_verifier(options.reward)
    questions = generate.read_questions(source, needs_answer=verifier.reads_gold)
    teacher, tokenizer = start_teacher(config, options, source)
    out = Path(options.out)
    try:
        with alone(out.parent, out.name), verifier:
            tally = generate.generate(
                questions, teacher, verifier, config, out,
                tokenizer=tokenizer, on_progress=every(SECONDS_PER_LINE),
            )  # fmt: skip
        generate.write_summary(tally, out)
    except OSError as error:
        raise StorageError(
            str(out), f"cannot be written ({first_line(error)})", fix="give another --out"
        ) from error
    sys.stdout.write("\n".join(generate.trace_summary(tally, out)) + "\n")
    return 0


def start_teacher(config: TeacherConfig, options: Any, source: PromptSource) -> tuple[Any, Any]:
    """The teacher, and the tokenizer that its log-probabilities are lined up with."""
    if config.endpoint is None:
        from luffy_pl.traces.local import LocalTeacher

        local = LocalTeacher(config, options.engine, source)
        return local, local.tokenizer
    from luffy_pl.data.tokenizer import load_tokenizer
    from luffy_pl.traces.endpoint import EndpointTeacher

    if config.record_logprobs and options.tokenizer is None:
        raise ConfigError(
            "tokenizer",
            "is missing: log-probabilities of an endpoint are lined up with its tokens",
            fix="name the student, which must have the teacher's tokenizer",
        )
    tokenizer = load_tokenizer(options.tokenizer) if config.record_logprobs else None
    return EndpointTeacher(config, system_prompt=source.system_prompt), tokenizer


def parse_options(argv: Sequence[str]) -> Any:
    """The options, with those of a run's configuration below them."""
    parser = sections_parser(
        "luffy-pl traces generate",
        "Ask a teacher, keep its right answers as expert traces; a killed command goes on.",
        {"teacher": TeacherConfig, "source": PromptSource, "reward": RewardConfig,
         "engine": EngineConfig},
    )  # fmt: skip
    parser.add_argument("file", nargs="?", help="prompts with their gold answers")
    parser.add_argument("--out", type=str, required=True, help="JSON Lines to write or continue")
    parser.add_argument("--tokenizer", type=str | None, help="of the student, for an endpoint")
    return parse(parser, argv, PLACES, needed=("file",))


def every(seconds: float) -> Callable[[Any], None]:
    """Progress at most so often."""
    last = time.monotonic()

    def say(tally: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            sys.stderr.write(tally.line() + "\n")

    return say
