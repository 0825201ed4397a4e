"""What can be wrong with a row, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass

FIXES = {
    "broken_row": "fix the row, or --source.on_bad_row skip to train without it",
    "prompt_too_long": "raise max_prompt_tokens or max_model_len, or let the loader drop the row",
    "control_token": "remove the token from the text: the model would read it as a command",
    "broken_text": "decode the source again: U+FFFD stands where bytes were lost",
    "gold_unusable": "give an answer that can be graded, or leave the row out",
    "gold_conflict": "keep the row whose answer is right",
    "duplicate_prompt": "remove one of the rows, or --source.duplicates drop",
    "repeated_trace": "give each prompt a trace of its own",
    "test_overlap": "remove the row: its problem is one of the test set",
    "trace_empty": "write a trace, or null where there is none",
    "trace_missing": "write a trace, name its column in --source.columns.trace, or "
    "--source.require_trace false",
    "eos_inside": "end the trace before its first stop token: sampling would stop there",
    "think_doubled": "keep one <think> and one </think>",
    "think_unclosed": "close the thought: nothing before the end of thinking is graded",
    "think_unopened": "begin the trace with <think>, or use a template that opens the thought",
    "no_answer": "end the trace with its answer in a form of --reward.forms",
    "trace_wrong": "correct trace or gold: the trace would be paid as a failure",
    "not_graded": "write the answer in a simpler form, or raise --reward.timeout_s",
    "trace_too_long": "drop the trace or raise max_response_tokens; it is never cut",
    "unknown_token": "remove what the tokenizer does not know, or use another tokenizer",
    "round_trip": "remove what the tokenizer changes: the model would learn another text",
    "logprobs_length": "record one log-probability per token and EOS with this tokenizer",
}


@dataclass(frozen=True)
class Defect:
    """One thing to fix.

    Args:
        kind: a key of FIXES.
        where: `file:row`.
        id: of the row, "" where it could not be read.
        what: what is wrong, in one line.
    """

    kind: str
    where: str
    id: str
    what: str

    @property
    def fix(self) -> str:
        """What to do about it."""
        return FIXES[self.kind]


def shorten(text: str, longest: int = 80) -> str:
    """The text on one line, cut in the middle if need be."""
    text = " ".join(text.split())
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"
