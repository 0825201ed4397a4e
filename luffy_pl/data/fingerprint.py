"""What a run trains on, as one short value: a resumed run must find the same again."""

from __future__ import annotations

from array import array
from hashlib import blake2b

from luffy_pl.data.prompts import PromptSet
from luffy_pl.errors import ConfigError


def fingerprint(prompts: PromptSet) -> str:
    """A hash over all prompts in their order, with golds and traces, as token ids.

    So it changes with the data, the tokenizer and the chat template alike.
    """
    found = blake2b(digest_size=16)
    for prompt in prompts.prompts:
        for text in (prompt.id, prompt.ground_truth):
            found.update(text.encode("utf-8", errors="surrogatepass") + b"\0")
        traces = prompts.traces.get(prompt.id, ())
        for token_ids in (prompt.token_ids, *(trace.token_ids for trace in traces)):
            found.update(len(token_ids).to_bytes(8, "big") + array("q", token_ids).tobytes())
    return f"{len(prompts.prompts)} prompts, {found.hexdigest()}"


def check_same(*, before: str, now: str) -> None:
    """Refuse to go on with other data than a run was started with."""
    if before != now:
        raise ConfigError(
            "data.train",
            "other prompts, traces, tokenizer or chat template than the run was started with: "
            f"{before} then",
            value=now,
            fix="give the run its data back, or start a new --run_dir",
        )
