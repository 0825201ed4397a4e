"""Ask, grade, choose, write: a line for each prompt as soon as it is answered."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luffy_pl.data.chat import THINK
from luffy_pl.data.columns import Question, file_row, read_question
from luffy_pl.data.expert_traces import tokenize_traces
from luffy_pl.data.prompts import prompt_of
from luffy_pl.data.source import PromptSource, begin_reading
from luffy_pl.errors import DataError, StorageError
from luffy_pl.reward.reward import Verifier
from luffy_pl.traces.answer import Answered, Teacher, TeacherAnswer
from luffy_pl.traces.settings import TeacherConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class TraceTally:
    """What has been asked so far, and what came of it."""

    prompts: int = 0
    total: int = 0
    samples: int = 0
    right: int = 0
    cut: int = 0
    prompts_with_trace: int = 0
    traces: int = 0
    traces_with_logprobs: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    price: float = 0.0

    def line(self) -> str:
        """For the terminal."""
        rate = self.answer_tokens / self.seconds if self.seconds else 0.0
        rest = self.seconds / self.prompts * (self.total - self.prompts) if self.prompts else 0.0
        price = f", price {self.price:.4g}" if self.price else ""
        return (
            f"{self.prompts} of {self.total} prompts, "
            f"{self.right} of {self.samples} answers right, {self.cut} cut off, "
            f"{self.answer_tokens} tokens at {rate:.0f}/s{price}, "
            f"{rest / 60:.1f} min left"
        )


def read_questions(source: PromptSource, *, needs_answer: bool = True) -> list[Question]:
    """Every row as a question; a bad one is an error, or left out as the source says.

    Args:
        needs_answer: a row without a gold answer is a bad one.
    """
    understood, rows = begin_reading(source)
    questions: list[Question] = []
    for where, row in rows:
        try:
            question = read_question(
                row,
                where=where,
                schema=understood.schema,
                columns=understood.columns,
                options_seed=source.options_seed,
                needs_answer=needs_answer,
            )
        except DataError:
            if source.on_bad_row == "error":
                raise
            continue
        if source.data_source in (None, question.data_source):
            questions.append(question)
    return questions


def generate(
    questions: Sequence[Question],
    teacher: Teacher,
    verifier: Verifier,
    config: TeacherConfig,
    out: Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    on_progress: Callable[[TraceTally], None] = lambda tally: None,
) -> TraceTally:
    """Append a line for each question to `out`; those it holds already are not asked again.

    Args:
        tokenizer: of teacher and student, needed to line recorded log-probabilities up.
    """
    done = rows_written(out)
    left = [question for question in questions if place_of(question) not in done]
    tally, started = TraceTally(total=len(left)), time.monotonic()
    with out.open("a", encoding="ascii") as file:
        for answered in teacher.answer(left):
            row = trace_row(answered, verifier, config, tokenizer)
            file.write(json.dumps(row) + "\n")
            # On disk before the next one is paid for.
            file.flush()
            count(tally, answered, row, config)
            tally.seconds = time.monotonic() - started
            on_progress(tally)
    return tally


def rows_written(out: Path) -> set[tuple[str, int]]:
    """File and row of the source that `out` answers; a line that was cut off is removed."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return set()
    whole: list[str] = []
    rows: set[tuple[str, int]] = set()
    for line in out.read_text(encoding="ascii", errors="replace").split("\n"):
        try:
            teacher = json.loads(line)["teacher"]
            rows.add((teacher["file"], teacher["row"]))
        except ValueError:
            continue
        except (KeyError, TypeError):
            raise StorageError(
                str(out), "holds lines of something else", fix="give another --out"
            ) from None
        whole.append(line + "\n")
    out.write_text("".join(whole), encoding="ascii")
    return rows


def place_of(question: Question) -> tuple[str, int]:
    """File of the source and row in it, counted from 1; a folder has several files."""
    file, _, number = file_row(question.where).rpartition(":")
    return file, int(number)


def trace_row(
    answered: Answered,
    verifier: Verifier,
    config: TeacherConfig,
    tokenizer: PreTrainedTokenizerBase | None,
) -> dict[str, Any]:
    """A line in the schema "plain", with what the teacher did beside it."""
    question = answered.question
    file, number = place_of(question)
    whole = [answer for answer in answered.answers if answer.is_complete]
    prompt = prompt_of(question, text=question.messages[-1]["content"], token_ids=())
    verdicts = verifier.grade([(answer.text, prompt) for answer in whole])
    right = [a for a, v in zip(whole, verdicts, strict=True) if v.correct or v.is_ungraded]
    kept = chosen(right, config)
    traces = [answer.text for answer in kept]
    logprobs = [aligned(answer, tokenizer) for answer in kept]
    if config.given == "add" or (config.given == "fallback" and not kept):
        traces += question.traces
        logprobs += question.logprobs
    row: dict[str, Any] = {
        "id": question.id.removeprefix(f"{question.data_source}/"),
        "data_source": question.data_source,
        "prompt": list(question.messages),
        "answer": question.ground_truth,
        "trace": traces or None,
        "teacher": {
            "model": config.model,
            "file": file,
            "row": number,
            "samples": len(answered.answers),
            "right": len(right),
            "cut": len(answered.answers) - len(whole),
            "tokens": sum(answer.num_tokens for answer in answered.answers),
        },
    }
    if config.record_logprobs:
        row["logprobs"] = logprobs if traces else None
    return row


def chosen(right: Sequence[TeacherAnswer], config: TeacherConfig) -> list[TeacherAnswer]:
    """The right answers that become traces; equal texts once."""
    different = list({answer.text: answer for answer in reversed(right)}.values())[::-1]
    match config.keep:
        case "first":
            return different[:1]
        case "shortest":
            return sorted(different, key=lambda answer: answer.num_tokens)[:1]
    return different


def aligned(
    answer: TeacherAnswer, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[float, ...] | None:
    """Its log-probabilities, if a run that reads the text will see the very same tokens."""
    if answer.logprobs is None or answer.token_ids is None or tokenizer is None:
        return None
    texts = {answer.text, answer.text.removeprefix(THINK).lstrip("\n")}
    read = {trace.token_ids for trace in tokenize_traces(tokenizer, sorted(texts)) if trace}
    return answer.logprobs if answer.token_ids in read else None


def count(
    tally: TraceTally, answered: Answered, row: dict[str, Any], config: TeacherConfig
) -> None:
    """One more prompt."""
    told = row["teacher"]
    tally.prompts += 1
    tally.samples += told["samples"]
    tally.right += told["right"]
    tally.cut += told["cut"]
    tally.traces += len(row["trace"] or ())
    tally.prompts_with_trace += bool(row["trace"])
    tally.traces_with_logprobs += sum(one is not None for one in row.get("logprobs") or ())
    tally.prompt_tokens += answered.num_prompt_tokens
    tally.answer_tokens += told["tokens"]
    tally.price = (
        tally.prompt_tokens * config.price_in + tally.answer_tokens * config.price_out
    ) / 1e6


def trace_summary(tally: TraceTally, out: Path) -> Iterator[str]:
    """For the terminal."""
    yield tally.line()
    told = f", {tally.traces_with_logprobs} with log-probabilities"
    yield (
        f"{tally.traces} traces of {tally.prompts_with_trace} prompts"
        f"{told if tally.traces_with_logprobs else ''}, in {tally.seconds:.0f} s: {out}"
    )


def write_summary(tally: TraceTally, out: Path) -> None:
    """Beside the traces; a command that went on counts its own part."""
    file = out.with_suffix(".report.json")
    file.write_text(json.dumps(dataclasses.asdict(tally), indent=1) + "\n", encoding="ascii")
