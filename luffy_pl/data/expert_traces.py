"""Expert traces: somebody else's answers, tokenised once, never cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from luffy_pl.data.chat import encode_known, shared
from luffy_pl.data.seeds import keyed_order
from luffy_pl.errors import DataError, ModelError
from luffy_pl.records import ExpertTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TooLong = Literal["drop", "keep", "error"]


def tokenize_traces(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[ExpertTrace | None]:
    """Encode traces and end each with exactly one EOS; `text` does not show it.

    None stands for a trace that the tokenizer has no tokens for.
    """
    if texts and tokenizer.eos_token_id is None:
        raise ModelError(
            "tokenizer.eos_token",
            "the tokenizer has no EOS token, so an expert trace could not end",
            value=tokenizer.name_or_path,
            fix="set eos_token in its tokenizer_config.json",
        )
    texts = [text.removesuffix(tokenizer.eos_token) for text in texts]
    end = shared((tokenizer.eos_token_id,))
    return [
        None if ids is None else ExpertTrace(text=text, token_ids=ids + end)
        for text, ids in zip(texts, encode_known(tokenizer, texts), strict=True)
    ]


def check_trace(trace: ExpertTrace, *, stop_ids: Sequence[int] = (), where: str) -> None:
    """A trace says something and is over at its first stop token, as if it had been sampled.

    Args:
        stop_ids: tokens beside EOS that end a response.
    """
    if not trace.text.strip():
        raise DataError(
            where,
            "the expert trace is empty apart from <think> and EOS",
            value=trace.text,
            fix="give null where a prompt has no trace, or on_bad_row=skip",
        )
    if (place := early_end(trace, stop_ids)) is not None:
        end = trace.token_ids[place]
        name = "EOS" if end == trace.token_ids[-1] else f"a stop token (id {end})"
        raise DataError(
            where,
            f"the expert trace holds {name} as token {place + 1} of {len(trace.token_ids)}",
            value=trace.text[-60:],
            fix="end the trace before it: sampling would stop there; or on_bad_row=skip",
        )


def early_end(trace: ExpertTrace, stop_ids: Sequence[int]) -> int | None:
    """The place of the first token that would have ended a response, if it is not the last."""
    ids = trace.token_ids
    place = min(ids.index(end) for end in {*stop_ids, ids[-1]} if end in ids)
    return place if place + 1 < len(trace.token_ids) else None


def with_logprobs(
    trace: ExpertTrace, logprobs: tuple[float, ...] | None, *, where: str
) -> ExpertTrace:
    """The trace with its expert's own log-probabilities, one per token and EOS."""
    if logprobs is not None and len(logprobs) != len(trace.token_ids):
        raise DataError(
            where,
            f"the expert trace has {len(trace.token_ids)} tokens, EOS included, and "
            f"{len(logprobs)} recorded log-probabilities",
            fix="record them with this tokenizer, EOS included, or leave the column out",
        )
    return dataclasses.replace(trace, logprobs=logprobs)


def is_usable(
    trace: ExpertTrace, *, max_response_tokens: int, too_long: TooLong, where: str
) -> bool:
    """Whether the trace is to be used. It is never cut: that would remove the final answer."""
    if len(trace.token_ids) <= max_response_tokens or too_long == "keep":
        return True
    if too_long == "error":
        raise DataError(
            where,
            f"the expert trace has {len(trace.token_ids)} tokens, more than "
            f"max_response_tokens={max_response_tokens}",
            fix="raise the limit, or too_long_trace=drop",
        )
    return False


def choose_traces(
    traces: Sequence[ExpertTrace], num: int, *, seed: int, phase: int, prompt_id: str
) -> tuple[ExpertTrace, ...]:
    """`num` of a prompt's traces, all of them where there are no more."""
    order = keyed_order(len(traces), "expert trace", seed, phase, prompt_id)
    return tuple(traces[index] for index in order[:num])
