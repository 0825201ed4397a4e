"""What is asked of a teacher, and which of its answers stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from luffy_pl.errors import ConfigError
from luffy_pl.rollout.engine import MAX_TEMPERATURE


@dataclass(frozen=True)
class TeacherConfig:
    """One teacher: a model in this process, or behind an OpenAI-compatible endpoint."""

    model: str
    """Folder or hub name; of an endpoint, the name it serves the model under."""
    endpoint: str | None = None
    """URL such as http://127.0.0.1:8000/v1, its key in OPENAI_API_KEY; null: this process."""
    samples: int = 4
    """Answers to each prompt."""
    temperature: float = 0.6
    """Softmax temperature; 0 is greedy."""
    top_p: float = 1.0
    """Smallest set of tokens with at least this probability; 1 keeps all."""
    max_tokens: int = 4096
    """Longest answer; one that is cut off is never kept."""
    keep: Literal["all", "first", "shortest"] = "all"
    """Which right answers to a prompt become its traces."""
    given: Literal["drop", "add", "fallback"] = "drop"
    """Traces the file already has, such as human solutions: left out; put behind the teacher's; or
    used where no answer of the teacher is right. They are not graded."""
    record_logprobs: bool = False
    """Write the teacher's own log-probability of each token, for behaviour: recorded. The student
    must have its tokenizer. An endpoint must be vLLM's, which returns token ids, started with
    --logprobs-mode processed_logprobs: else temperature is not in them."""
    seed: int = 0
    """Keys every draw of a model in this process, and is passed on to an endpoint."""
    chat_template_kwargs: dict[str, Any] | None = None
    """What the teacher's chat template is given beside the messages, such as
    `{enable_thinking: true}` of Qwen3; of an endpoint, vLLM's takes it."""
    concurrency: int = 16
    """Prompts that are asked at once."""
    price_in: float = 0.0
    """Price of a million prompt tokens, in any currency."""
    price_out: float = 0.0
    """Price of a million answer tokens."""

    def __post_init__(self) -> None:
        for name in ("samples", "max_tokens", "concurrency"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"teacher.{name}", "must be at least 1", value=getattr(self, name),
                    fix="raise it",
                )  # fmt: skip
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise ConfigError(
                "teacher.temperature", f"must be between 0 and {MAX_TEMPERATURE:g}",
                value=self.temperature, fix="use 0.6",
            )  # fmt: skip
        if self.temperature == 0 and (self.samples > 1 or self.record_logprobs):
            raise ConfigError(
                "teacher.temperature",
                "0 is greedy: all answers are the same, and none was drawn with a probability",
                value=0,
                fix="samples 1 and record_logprobs false, or a temperature above 0",
            )
