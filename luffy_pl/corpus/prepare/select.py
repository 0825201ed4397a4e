"""A chunk of raw rows to training rows, each with what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from luffy_pl.corpus.check.repeats import TestSet
from luffy_pl.corpus.check.rows import question_texts, user_text
from luffy_pl.corpus.prepare.recipe import Recipe, SourceName
from luffy_pl.corpus.prepare.sources import Candidate, as_thought, read_candidate
from luffy_pl.data.chat import with_system_prompt
from luffy_pl.data.expert_traces import tokenize_traces
from luffy_pl.data.prompts import prompt_of
from luffy_pl.data.source import PromptSource
from luffy_pl.data.text_lines import DataRow
from luffy_pl.errors import DataError
from luffy_pl.reward.reward import RewardConfig, Verifier, build_verifier


@dataclass(frozen=True)
class SelectionJob:
    """What a worker needs to know; the same for every chunk."""

    source: SourceName
    recipe: Recipe
    reward: RewardConfig
    against: tuple[str, ...] = ()


@dataclass
class RowOutcome:
    """What became of one row.

    Args:
        reason: "kept", or why not: bad_row, no_gold, gold_unusable, test_overlap, no_trace.
        row: the training row, without traces if the reason is no_trace; None if it cannot be used.
        text: the question, to find it again in other rows.
        lost: traces, by reason: not_verified, not_complete, too_long, wrong,
            unknown_token.
        num_tokens: of each trace that is kept, EOS included; empty without a tokenizer.
    """

    where: str
    reason: str
    row: dict[str, Any] | None = None
    text: str = ""
    lost: dict[str, int] = field(default_factory=dict)
    num_tokens: list[int] = field(default_factory=list)
    what: str = ""


def select(job: SelectionJob, rows: Sequence[tuple[str, DataRow]]) -> list[dict[str, Any]]:
    """Outcomes of a chunk, in order."""
    with build_verifier(job.reward) as verifier:
        return [asdict(select_row(job, where, row, verifier)) for where, row in rows]


def select_row(job: SelectionJob, where: str, row: DataRow, verifier: Verifier) -> RowOutcome:
    """One row."""
    try:
        candidate = read_candidate(job.source, row, where=where, columns=job.recipe.columns)
    except DataError as error:
        return RowOutcome(where, "bad_row", what=error.what)
    if candidate is None:
        return RowOutcome(where, "no_gold")
    question = candidate.question
    if not verifier.check_golds([question.ground_truth])[0]:
        return RowOutcome(where, "gold_unusable", what=question.ground_truth[:80])
    text = user_text(question)
    if job.against and (found := test_set(job.against).overlap(text)) is not None:
        return RowOutcome(where, "test_overlap", what=found[0])
    traces, lost = surviving(job, candidate, verifier)
    traces, tokens = counted(job.recipe.tokenizer, traces, lost)
    limit = job.recipe.max_trace_tokens
    if limit is not None:
        short = [(t, n) for t, n in zip(traces, tokens, strict=True) if n <= limit]
        lost["too_long"] += len(traces) - len(short)
        traces, tokens = [t for t, _ in short], [n for _, n in short]
    if job.recipe.survivors == "first":
        traces, tokens = traces[:1], tokens[:1]
    made = training_row(job, candidate, traces)
    return RowOutcome(where, "kept" if traces else "no_trace", made, text, dict(+lost), tokens)


def surviving(
    job: SelectionJob, candidate: Candidate, verifier: Verifier
) -> tuple[list[str], Counter[str]]:
    """Traces that the source and the verifier accept, written as the recipe wants them."""
    question, lost = candidate.question, Counter[str]()
    traces = []
    for trace, reason in zip(question.traces, candidate.refused, strict=True):
        if reason is not None:
            lost[reason] += 1
            continue
        is_think = job.recipe.form == "think"
        traces.append(as_thought(trace, question.ground_truth) if is_think else trace)
    if not job.recipe.grade:
        return traces, lost
    # As it was written: a box that we add would make every trace right.
    given = [
        trace
        for trace, reason in zip(question.traces, candidate.refused, strict=True)
        if reason is None
    ]
    prompt = prompt_of(question, text=user_text(question), token_ids=())
    verdicts = verifier.grade([(trace, prompt) for trace in given])
    right = [t for t, v in zip(traces, verdicts, strict=True) if v.correct or v.is_ungraded]
    lost["wrong"] += len(traces) - len(right)
    return right, lost


def training_row(job: SelectionJob, candidate: Candidate, traces: Sequence[str]) -> dict[str, Any]:
    """The schema of the released LUFFY files."""
    question = candidate.question
    number = question.where.rpartition(":")[2]
    target = [{"role": "assistant", "content": traces[0]}] if traces else None
    row: dict[str, Any] = {
        "data_source": question.data_source or job.source,
        "prompt": with_system_prompt(question.messages, job.recipe.system_prompt),
        "target": target,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": question.ground_truth},
        "extra_info": {"split": job.recipe.split or "default", "index": int(number)},
    }
    if job.recipe.survivors == "all":
        row["target_lst"] = list(traces) or None
    return row


def counted(
    tokenizer: str | None, traces: list[str], lost: Counter[str]
) -> tuple[list[str], list[int]]:
    """The traces that the tokenizer has tokens for, and how many with EOS; none without it."""
    if tokenizer is None:
        return traces, []
    encoded = tokenize_traces(loaded(tokenizer), traces)
    known = [(text, one) for text, one in zip(traces, encoded, strict=True) if one is not None]
    lost["unknown_token"] += len(traces) - len(known)
    return [text for text, _ in known], [len(one.token_ids) for _, one in known]


@cache
def loaded(tokenizer: str) -> Any:
    """One for a process."""
    from luffy_pl.data.tokenizer import load_tokenizer

    return load_tokenizer(tokenizer)


@cache
def test_set(files: tuple[str, ...]) -> TestSet:
    """One for a process: its hashes mean nothing in another."""
    return TestSet(pair for file in files for pair in question_texts(PromptSource(file)))
