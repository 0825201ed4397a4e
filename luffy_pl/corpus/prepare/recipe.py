"""What rows are made of, and which traces stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from luffy_pl.data.columns import Columns
from luffy_pl.errors import ConfigError

SourceName = Literal["openr1", "gsm8k", "numina", "jsonl"]
HUB = {
    "openr1": "open-r1/OpenR1-Math-220k:default",
    "gsm8k": "openai/gsm8k:main",
    "numina": "AI-MO/NuminaMath-CoT",
}


@dataclass(frozen=True)
class Recipe:
    """How training rows are made."""

    path: str | None = None
    """File, folder in the layout of the hub, or hub name; null takes the published data set."""
    split: str | None = None
    """Split of a hub data set or folder; null: train. A file has none."""
    columns: Columns = field(default_factory=Columns)
    """Columns that are named otherwise than the source names them."""
    tokenizer: str | None = None
    """Model whose tokens are counted."""
    max_trace_tokens: int | None = None
    """Longest trace, EOS included; a longer one is left out, never cut. null sets no limit."""
    survivors: Literal["first", "all"] = "first"
    """first: the first trace that is left, in `target`. all: every one, in the list `target_lst`
    (data.train.columns.trace: target_lst), its first in `target`."""
    form: Literal["as_is", "think"] = "as_is"
    """think writes a solution as `<think>solution</think>` and a box with the gold behind it."""
    grade: bool = True
    """Leave out traces that the verifier does not accept, whatever the source says of them."""
    system_prompt: str | None = None
    """System message of every row; null writes none."""
    complement: bool = False
    """Also write the prompts of which no trace is left, for reinforcement learning after SFT."""
    limit: int | None = None
    """Rows to read from the start; null reads all."""

    def __post_init__(self) -> None:
        if self.max_trace_tokens is not None and self.tokenizer is None:
            raise ConfigError(
                "tokenizer",
                "is missing, and max_trace_tokens counts its tokens",
                value=self.max_trace_tokens,
                fix="name the model that will be trained",
            )
        for name in ("max_trace_tokens", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(name, "must be at least 1", value=value, fix="null sets no limit")
