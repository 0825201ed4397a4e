"""Defects of one row alone: its texts, its tokens, its lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luffy_pl.corpus.check.defects import Defect, shorten
from luffy_pl.corpus.check.rows import CheckedRow
from luffy_pl.data.chat import THINK
from luffy_pl.data.expert_traces import early_end
from luffy_pl.records import ExpertTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOST = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Limits:
    """What a row may not exceed or miss.

    Args:
        max_prompt_tokens: of a prompt; None sets no limit.
        max_response_tokens: of a trace, EOS included; None sets no limit.
        think_end: what closes a thought; None where there are none.
        require_trace: every row has a trace.
        max_model_len: of prompt and answer together; None sets no limit.
        stop_ids: tokens beside EOS that end a response.
    """

    max_prompt_tokens: int | None
    max_response_tokens: int | None
    think_end: str | None
    require_trace: bool
    max_model_len: int | None = None
    stop_ids: frozenset[int] = frozenset()

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the longest prompt that a run would use."""
        window = None if self.max_model_len is None else self.max_model_len - 1
        limits = [limit for limit in (self.max_prompt_tokens, window) if limit is not None]
        return min(limits, default=None)


class TextChecks:
    """The tokenizer's own tokens, found once, and what they may not do in a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limits: Limits) -> None:
        self.tokenizer, self.limits = tokenizer, limits
        self.eos = str(tokenizer.eos_token)
        think = {THINK, limits.think_end}
        special = {
            str(token) for token in tokenizer.added_tokens_decoder.values() if token.special
        } | {str(token) for token in tokenizer.all_special_tokens}
        self.control = sorted(token for token in special - think if token.strip())
        # A tokenizer that normalises text does so in every row: said once, not for each.
        self.keeps_text = True

    def row(self, row: CheckedRow) -> Iterator[Defect]:
        """Defects of the prompt, then at most one kind of each trace."""
        for kind, what in self._prompt(row):
            yield Defect(kind, row.question.where, row.question.id, what)
        if self.limits.require_trace and not row.traces:
            yield Defect("trace_missing", row.question.where, row.question.id, "no expert trace")
        for place, (text, trace) in enumerate(zip(row.question.traces, row.traces, strict=True)):
            name = f"trace {place + 1}: " if len(row.traces) > 1 else ""
            for kind, what in self._trace(row, text, trace, row.question.logprobs[place]):
                yield Defect(kind, row.question.where, row.question.id, name + what)

    def _prompt(self, row: CheckedRow) -> Iterator[tuple[str, str]]:
        limit = self.limits.prompt_tokens
        if limit is not None and len(row.prompt_ids) > limit:
            yield "prompt_too_long", f"the prompt has {len(row.prompt_ids)} tokens of {limit}"
        for message in row.question.messages:
            content = message["content"]
            if LOST in content:
                yield "broken_text", f"U+FFFD in the prompt: {around(content, LOST)}"
            if token := self._control_token(content):
                yield "control_token", f"{token} in the prompt: {around(content, token)}"

    def _trace(
        self,
        row: CheckedRow,
        raw: str,
        trace: ExpertTrace | None,
        logprobs: tuple[float, ...] | None,
    ) -> Iterator[tuple[str, str]]:
        if trace is None:
            yield "unknown_token", "the tokenizer has no token for a part of the trace"
            return
        if (structural := self._structure(row, raw, trace)) is not None:
            yield structural
        limit, num_tokens = self.limits.max_response_tokens, len(trace.token_ids)
        if limit is not None and num_tokens > limit:
            yield "trace_too_long", f"the trace has {num_tokens} tokens with EOS, of {limit}"
        if logprobs is not None and len(logprobs) != num_tokens:
            yield (
                "logprobs_length",
                f"{len(logprobs)} recorded log-probabilities for {num_tokens} tokens with EOS",
            )
        if LOST in raw:
            yield "broken_text", f"U+FFFD in the trace: {around(raw, LOST)}"
        if structural is None and self.keeps_text:
            back = self.decode(trace.token_ids[:-1])
            if back != trace.text:
                yield "round_trip", f"encoded and decoded, {first_difference(trace.text, back)}"

    def _structure(self, row: CheckedRow, raw: str, trace: ExpertTrace) -> tuple[str, str] | None:
        if not trace.text.strip():
            return "trace_empty", "nothing but <think> and EOS"
        if self.eos in trace.text:
            return "eos_inside", f"EOS within the trace: {around(trace.text, self.eos)}"
        if (place := early_end(trace, tuple(self.limits.stop_ids))) is not None:
            end = self.decode(trace.token_ids[place : place + 1])
            return "eos_inside", (
                f"{end!r}, which ends a response, as token {place + 1} of {len(trace.token_ids)}"
            )
        if token := self._control_token(trace.text):
            return "control_token", f"{token} in the trace: {around(trace.text, token)}"
        return self._thought(row, raw)

    def _thought(self, row: CheckedRow, raw: str) -> tuple[str, str] | None:
        end = self.limits.think_end
        if end is None:
            return None
        opened, closed = raw.count(THINK), raw.count(end)
        if opened > 1 or closed > 1:
            return "think_doubled", f"{THINK} {opened} times and {end} {closed} times"
        if closed == 0:
            return "think_unclosed", f"no {end}, the trace ends {shorten(raw[-60:])!r}"
        prompt_opens = row.prompt_text.rstrip().endswith(THINK)
        if not opened and not prompt_opens and end == f"</{THINK[1:]}":
            return "think_unopened", f"begins {shorten(raw[:60])!r}, and so does no prompt"
        return None

    def _control_token(self, text: str) -> str | None:
        return next((token for token in self.control if token in text), None)

    def decode(self, ids: tuple[int, ...]) -> str:
        """The text of tokens, nothing left out and nothing tidied."""
        return self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def around(text: str, part: str, width: int = 30) -> str:
    """A part with what stands around it."""
    at = text.index(part)
    return repr(text[max(0, at - width) : at + len(part) + width])


def first_difference(text: str, other: str) -> str:
    """Where two texts part."""
    at = next(
        (i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b),
        min(len(text), len(other)),
    )
    return f"{text[at : at + 20]!r} at character {at + 1} becomes {other[at : at + 20]!r}"
