"""Read the prompts, expert traces and benchmark problems of a run, before anything is sampled."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luffy_pl.bundled import resolve
from luffy_pl.data.chat import TemplateKwargs, Tokenizer, encode_known
from luffy_pl.data.prompts import PromptSet, load_prompts
from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError
from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.experience.checks import check_prompts, without_bad_golds
from luffy_pl.experience.settings import RolloutConfig
from luffy_pl.guidance.hinter import Hinter
from luffy_pl.guidance.settings import WHERE, check_template
from luffy_pl.process.first_rank import is_first_rank
from luffy_pl.records import Prompt
from luffy_pl.reward.reward import Verifier

log = logging.getLogger(__name__)

GRADED_TRACES, FEWEST_TRACES = 32, 4
"""Expert traces that are graded at the start, and how many it takes to say something of all."""


@dataclass(frozen=True)
class Asking:
    """How a run asks its model.

    Args:
        max_model_len: tokens of prompt and answer together; None sets no limit.
        chat_template_kwargs: what the chat template is given beside the messages.
    """

    max_model_len: int | None = None
    chat_template_kwargs: TemplateKwargs | None = None


def read_training(
    source: PromptSource | None,
    tokenizer: Tokenizer,
    *,
    verifier: Verifier,
    rollout: RolloutConfig,
    asking: Asking,
    needs_logprobs: bool,
    agree: Callable[[list[bool]], list[bool]],
    report: Callable[[str], None],
) -> PromptSet:
    """Read the prompts that phases draw from, and their traces.

    Args:
        verifier: drops prompts whose gold no answer can equal.
        asking: how prompts are rendered, and how long one may be.
        needs_logprobs: whether the objective reads the probabilities that an expert recorded.
        agree: makes the first rank's findings those of all ranks.
        report: gets each line of what was dropped.

    Raises:
        ConfigError: no source is set.
        DataError: the set cannot be read, or is too small for a phase.
    """
    if source is None:
        raise ConfigError("data.train", "is not set", fix="give data.train.path")
    prompts = load_prompts(
        resolved(source),
        tokenizer,
        max_response_tokens=rollout.max_response_tokens,
        needs_answer=verifier.reads_gold,
        max_model_len=asking.max_model_len,
        chat_template_kwargs=asking.chat_template_kwargs,
    )
    # A check may time out on one rank alone, and every rank needs the same prompts.
    usable = agree(verifier.check_golds([prompt.ground_truth for prompt in prompts.prompts]))
    prompts = without_bad_golds(prompts, usable)
    for line in prompts.report.lines():
        report(f"{source.path}: {line}")
    check_prompts(prompts, source.path, rollout, needs_logprobs=needs_logprobs)
    if rollout.needs_traces and verifier.reads_gold and is_first_rank():
        warn_of_wrong_traces(prompts, source.path, verifier)
    return prompts


def warn_of_wrong_traces(prompts: PromptSet, path: str, verifier: Verifier) -> None:
    """Say so where none of the first expert traces is right, as where a column is mistaken."""
    first = [
        (found[0].text, prompt)
        for prompt in prompts.prompts[:GRADED_TRACES]
        if (found := prompts.traces.get(prompt.id))
    ]
    verdicts = verifier.grade(first)
    if len(first) < FEWEST_TRACES or any(verdict.correct is not False for verdict in verdicts):
        return
    status, count = Counter(verdict.status for verdict in verdicts).most_common(1)[0]
    log.warning(
        "%s: none of the first %d expert traces is right by data.reward (%d times: %s), so their "
        "rows earn nothing; check data.train.columns, data.reward.think_end and data.reward.forms",
        path, len(first), count, status,
    )  # fmt: skip


def build_hinter(
    source: PromptSource | None,
    rollout: RolloutConfig,
    asking: Asking,
    tokenizer: Tokenizer,
    *,
    seed: int,
) -> Hinter | None:
    """What puts hints into prompts; None without guidance."""
    config = rollout.guidance
    if config is None or source is None:
        return None
    template, name = config.template, f"{WHERE}.template"
    if source.hint_template is not None:
        template, name = source.hint_template, f"{source.path}: hint_template"
        check_template(template, name)
    # A prompt that fills the window would leave no room for an answer.
    limits = [config.max_prompt_tokens, asking.max_model_len and asking.max_model_len - 1]
    return Hinter(
        config,
        encode=lambda texts: encode_known(tokenizer, texts),
        special=tuple(tokenizer.all_special_tokens),
        template=template,
        template_name=name,
        max_prompt_tokens=min((limit for limit in limits if limit), default=None),
        seed=seed,
    )


def read_benchmarks(
    benchmarks: Sequence[Benchmark],
    tokenizer: Tokenizer,
    *,
    verifier_of: Callable[[Benchmark], Verifier],
    asking: Asking,
    report: Callable[[str], None],
) -> list[tuple[Prompt, ...]]:
    """Read the problems of each benchmark; a gold is needed where its verifier reads one.

    A problem that the engine has no room for is an error: without it the benchmark would be easier.
    What the settings of a benchmark leave out is reported.
    """
    problems = []
    for one in benchmarks:
        found = load_prompts(
            resolved(one.source),
            tokenizer,
            needs_answer=verifier_of(one).reads_gold,
            max_model_len=asking.max_model_len,
            beyond_window="error",
            chat_template_kwargs=asking.chat_template_kwargs,
        )
        if found.report.dropped or found.report.understood:
            for line in found.report.lines():
                report(f"{one.name}: {line}")
        problems.append(found.prompts)
    return problems


def resolved(source: PromptSource) -> PromptSource:
    """Return the source with a `bundled:` path spelled out."""
    return dataclasses.replace(source, path=resolve(source.path))
