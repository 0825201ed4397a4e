"""`luffy-pl data check FILE --model M`: what is wrong with the rows of a run, before it starts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luffy_pl.bundled import resolve
from luffy_pl.config.command_options import parse, sections_parser
from luffy_pl.data.source import PromptSource
from luffy_pl.reward.reward import RewardConfig

DEFECTS = 3
"""Exit code of a file with defects."""
PLACES = {
    "file": "data.train.path",
    "model": "model.policy.path",
    "source": "data.train",
    "reward": "data.reward",
    "max_response_tokens": "data.rollout.max_response_tokens",
    "max_model_len": "data.engine.max_model_len",
    "chat_template_kwargs": "data.chat_template_kwargs",
}


def main(argv: Sequence[str]) -> int:
    """Check one file; 0 if it is clean, 3 if it has defects."""
    options = parse_options(argv)
    from luffy_pl.corpus.check.report import report_lines, write_check
    from luffy_pl.corpus.check.run import check_data

    source = dataclasses.replace(options.source, path=resolve(options.source.path))
    checked = check_data(
        source,
        resolve(options.model),
        options.reward,
        max_response_tokens=options.max_response_tokens,
        max_model_len=options.max_model_len,
        chat_template_kwargs=options.chat_template_kwargs,
        against=[PromptSource(resolve(path)) for path in options.against or ()],
        num_probabilities=options.probabilities,
        on_progress=say,
    )
    folder = Path(options.out or f"outputs/check/{Path(source.path).stem}")
    write_check(folder, checked)
    sys.stdout.write("\n".join([*report_lines(checked), f"page: {folder / 'check.html'}"]) + "\n")
    return DEFECTS if checked.defects else 0


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(text + "\n")


def parse_options(argv: Sequence[str]) -> Any:
    """The options, with those of a run's configuration below them."""
    parser = sections_parser(
        "luffy-pl data check",
        "Find what is wrong with prompts and expert traces. With --config RUN.yaml the file, the "
        "model, the limits and the rewards are those of the run.",
        {"source": PromptSource, "reward": RewardConfig},
    )
    parser.add_argument(
        "file", nargs="?", help="JSON Lines, Parquet, or a hub name with --source.split"
    )
    parser.add_argument("--model", type=str | None, help="folder or hub name: tokenizer, template")
    parser.add_argument(
        "--max_response_tokens", type=int | None, help="limit of a trace, EOS included"
    )
    parser.add_argument(
        "--max_model_len", type=int | None, help="limit of prompt and answer together"
    )
    parser.add_argument(
        "--chat_template_kwargs",
        type=dict[str, Any] | None,
        help="what the chat template is given, such as '{enable_thinking: false}'",
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="FILE",
        help="test set that must not occur; repeatable",
    )
    parser.add_argument(
        "--probabilities", type=int, default=0,
        help="traces whose probability under the model is measured; 0 loads no weights",
    )  # fmt: skip
    parser.add_argument("--out", type=str | None, help="folder of check.json and check.html")
    return parse(parser, argv, PLACES, needed=("file", "model"))
