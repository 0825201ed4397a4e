"""All checks over one file, in one pass; verdicts and probabilities at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from luffy_pl.corpus.check.defects import FIXES, Defect
from luffy_pl.corpus.check.lengths import LengthSummary, summarize_lengths
from luffy_pl.corpus.check.probability import Probabilities, trace_probabilities
from luffy_pl.corpus.check.repeats import Repeats, TestSet
from luffy_pl.corpus.check.rows import CheckedRow, Reader, question_texts
from luffy_pl.corpus.check.template import segments, template_notes
from luffy_pl.corpus.check.texts import Limits, TextChecks
from luffy_pl.data.chat import (
    Rendering,
    TemplateKwargs,
    check_template_kwargs,
    with_chat_template,
)
from luffy_pl.data.source import PromptSource, Understood
from luffy_pl.data.tokenizer import generation_stop_ids, load_tokenizer, longest_context
from luffy_pl.errors import DataError
from luffy_pl.records import Verdict
from luffy_pl.reward.reward import RewardConfig, Verifier, build_verifier

# A trace with one of these has no answer that could be graded, or one that nobody would see.
UNGRADED = {"trace_empty", "think_unclosed", "think_doubled", "eos_inside", "unknown_token"}


@dataclass(frozen=True)
class Checked:
    """What was found; `prompt` is the first rendered prompt in pieces, special tokens apart."""

    path: str
    model: str
    num_rows: int
    num_traces: int
    num_right: int
    understood: Understood
    prompt: tuple[tuple[str, bool], ...]
    notes: tuple[str, ...]
    lengths: tuple[LengthSummary, ...]
    defects: tuple[Defect, ...]
    probabilities: Probabilities | None

    def as_dict(self) -> dict[str, Any]:
        """For check.json."""
        defects = [{**dataclasses.asdict(defect), "fix": defect.fix} for defect in self.defects]
        return {**dataclasses.asdict(self), "defects": defects}

    def by_kind(self) -> dict[str, list[Defect]]:
        """Defects in the order of FIXES."""
        found = {kind: [d for d in self.defects if d.kind == kind] for kind in FIXES}
        return {kind: defects for kind, defects in found.items() if defects}


@dataclass
class Pass:
    """What one pass over the rows leaves behind."""

    rows: list[CheckedRow] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)


def check_data(
    source: PromptSource,
    model_path: str,
    reward: RewardConfig,
    *,
    max_response_tokens: int | None,
    max_model_len: int | None = None,
    chat_template_kwargs: TemplateKwargs | None = None,
    against: Sequence[PromptSource] = (),
    num_probabilities: int = 0,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Checked:
    """Read `source` as a run with this model and reward would, and name what is wrong.

    Args:
        max_response_tokens: limit of a trace, EOS included; None sets no limit.
        max_model_len: tokens of prompt and answer together; None takes the model's own limit.
        chat_template_kwargs: what the chat template is given beside the messages.
        against: test sets that must not occur in it.
        num_probabilities: traces whose probability under the model is measured; 0 loads none.
    """
    tokenizer = with_chat_template(load_tokenizer(model_path), source.chat_template)
    check_template_kwargs(tokenizer, chat_template_kwargs, where="chat_template_kwargs")
    limits = Limits(
        source.max_prompt_tokens,
        max_response_tokens,
        reward.think_end,
        source.require_trace,
        max_model_len=max_model_len or longest_context(model_path),
        stop_ids=frozenset(generation_stop_ids(model_path)),
    )
    verifier = build_verifier(reward)
    rendering = Rendering(tokenizer, chat_template_kwargs or {})
    reader = Reader(source, rendering, needs_answer=verifier.reads_gold)
    checks = TextChecks(tokenizer, limits)
    repeats = Repeats(TestSet(pair for one in against for pair in question_texts(one)))
    found = read_all(reader, checks, repeats, on_progress)
    understood = check_readable(reader, found)
    on_progress(f"grading the traces of {len(found.rows)} rows")
    wrong, num_right = grade(found, verifier)
    probabilities = None
    if num_probabilities:
        on_progress(f"asking the model about {num_probabilities} traces")
        probabilities = trace_probabilities(found.rows, model_path, num_traces=num_probabilities)
    return Checked(
        path=source.path,
        model=model_path,
        num_rows=reader.num_rows,
        num_traces=sum(len(row.traces) for row in found.rows),
        num_right=num_right,
        understood=understood,
        prompt=tuple(segments(tokenizer, found.rows[0].prompt_ids)),
        notes=tuple(notes(rendering, model_path, found.rows, limits)),
        lengths=measured(found.rows, limits),
        defects=in_order([*reader.defects, *found.defects, *wrong]),
        probabilities=probabilities,
    )


def check_readable(reader: Reader, found: Pass) -> Understood:
    """How the columns were read; a DataError if no row can be."""
    if not found.rows or reader.understood is None:
        raise DataError(
            reader.source.path,
            f"no row of {reader.num_rows} can be read"
            + (f"; the first: {reader.defects[0].what}" if reader.defects else ""),
            fix=as_options(reader.first_fix)
            or FIXES[reader.defects[0].kind if reader.defects else "broken_row"],
        )
    return reader.understood


def as_options(fix: str) -> str:
    """A fix in the words of this command, where a run has them as settings."""
    for name in ("columns.", "on_bad_row="):
        fix = fix.replace(f" {name}", f" --source.{name}")
    return fix.replace("on_bad_row=", "on_bad_row ")


def read_all(
    reader: Reader, checks: TextChecks, repeats: Repeats, on_progress: Callable[[str], None]
) -> Pass:
    """Every row, and its defects but the verdicts."""
    found = Pass()
    for row in reader.rows():
        if not found.rows:
            checks.keeps_text = checks.decode(row.prompt_ids) == row.prompt_text
        found.rows.append(row)
        found.defects += [*checks.row(row), *repeats.row(row)]
        if len(found.rows) % 5000 == 0:
            on_progress(f"{len(found.rows)} rows read")
    return found


def grade(found: Pass, verifier: Verifier) -> tuple[list[Defect], int]:
    """Golds that grade nobody, traces that would be paid as failures; how many are right."""
    structural = {defect.where for defect in found.defects if defect.kind in UNGRADED}
    defects: list[Defect] = []
    with verifier:
        usable = verifier.check_golds([row.question.ground_truth for row in found.rows])
        for row, is_usable in zip(found.rows, usable, strict=True):
            if not is_usable:
                gold = row.question.ground_truth
                what = f"no answer can be graded against the gold {gold!r}"
                defects.append(Defect("gold_unusable", row.question.where, row.question.id, what))
        graded = [
            (row, place, text)
            for row, is_usable in zip(found.rows, usable, strict=True)
            if is_usable and row.question.where not in structural
            for place, text in enumerate(row.question.traces)
        ]
        verdicts = verifier.grade([(text, row.prompt) for row, _, text in graded])
    for (row, place, _), verdict in zip(graded, verdicts, strict=True):
        if verdict.correct is not True and not verdict.has_no_grader:
            name = f"trace {place + 1}: " if len(row.traces) > 1 else ""
            kind, what = trace_defect(verdict)
            defects.append(Defect(kind, row.question.where, row.question.id, name + what))
    return defects, sum(verdict.correct is True for verdict in verdicts)


def trace_defect(verdict: Verdict) -> tuple[str, str]:
    """Why a trace is not right."""
    if verdict.status in ("no_answer", "truncated"):
        return "no_answer", f"the verifier finds no answer ({verdict.status})"
    if verdict.status != "ok":
        return "not_graded", f"the verifier gives up on {verdict.extracted!r} ({verdict.status})"
    return "trace_wrong", f"the trace answers {verdict.extracted!r}, the gold is {verdict.gold!r}"


def notes(
    rendering: Rendering, model_path: str, rows: Sequence[CheckedRow], limits: Limits
) -> Iterator[str]:
    """What holds for the whole file."""
    yield from template_notes(rendering, model_path, rows[0])
    window = limits.max_model_len
    longest = max(
        len(row.prompt_ids) + max((len(t.token_ids) for t in row.traces if t), default=0)
        for row in rows
    )
    if window is not None and longest > window:
        yield f"the longest row has {longest} tokens, the window {window}"
    bare = sum(not row.traces for row in rows)
    if bare and not limits.require_trace:
        yield f"{bare} of {len(rows)} rows have no trace: their groups hold rollouts alone"


def measured(rows: Sequence[CheckedRow], limits: Limits) -> tuple[LengthSummary, ...]:
    """Prompts and traces in tokens."""
    traces = [len(trace.token_ids) for row in rows for trace in row.traces if trace is not None]
    found = (
        summarize_lengths("prompt", [len(row.prompt_ids) for row in rows], limits.prompt_tokens),
        summarize_lengths("trace", traces, limits.max_response_tokens),
    )
    return tuple(one for one in found if one is not None)


def in_order(defects: Sequence[Defect]) -> tuple[Defect, ...]:
    """Sort by row, then in the order of FIXES."""
    kinds = list(FIXES)

    def key(defect: Defect) -> tuple[int, int]:
        row = defect.where.rpartition(":")[2]
        return (int(row) if row.isdigit() else 0, kinds.index(defect.kind))

    return tuple(sorted(defects, key=key))
