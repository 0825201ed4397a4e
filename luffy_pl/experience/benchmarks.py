"""What is measured, and how it is asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from luffy_pl import registry
from luffy_pl.bounds import Bound, bounded, check_bound, check_bounds
from luffy_pl.data.source import PromptSource
from luffy_pl.errors import ConfigError
from luffy_pl.reward.reward import RewardConfig, build_reward_function
from luffy_pl.reward.terms import RewardFunction, correctness
from luffy_pl.rollout.engine import MAX_TEMPERATURE, Sampling

UNSET_BAD_SHARES = (PromptSource.max_bad_share, 0.005)
"""`max_bad_share` where nobody set it: the default of today, and that of an earlier version."""
REWARD = "reward"
"""The metric that has the terms of the reward computed."""


@dataclass(frozen=True)
class Benchmark:
    """A set of problems, each answered `samples_per_problem` times."""

    name: str
    """Name in tables, metrics and files: letters, digits, `_`, `-`, `.`."""
    source: PromptSource
    """Where the problems come from."""
    samples_per_problem: int = bounded(1, at_least=1, at_most=1e6)
    """Answers per problem: the k of avg@k."""
    temperature: float = bounded(0.0, at_least=0, at_most=MAX_TEMPERATURE)
    """Softmax temperature; 0 is greedy (the paper samples at 0.6)."""
    top_p: float = bounded(1.0, above=0, at_most=1)
    """Smallest set of tokens with at least this probability; 1 keeps all."""
    max_response_tokens: int | None = bounded(None, at_least=1, at_most=1e9)
    """Longest answer; null takes rollout.max_response_tokens."""
    out_of_distribution: bool = False
    """Averaged apart from the benchmarks of the training distribution."""
    reward: RewardConfig | None = None
    """How its answers are graded; null takes data.reward. What is left out has its default."""
    metrics: tuple[str, ...] = ()
    """What is measured beside accuracy, lengths and shares: distinct (share of different answers),
    paid (what the grader pays), reward (what all terms of the reward pay), and metrics that
    packages and plugins register."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ConfigError(
                f"data.benchmarks[{self.name}].name",
                "is not a file name",
                value=self.name,
                fix="use letters, digits, _, - and .",
            )
        for metric in self.metrics:
            registry.check("metric", metric, where=f"data.benchmarks[{self.name}].metrics")
        check_bounds(self, f"data.benchmarks[{self.name}]")
        self._check_effects()

    def _check_effects(self) -> None:
        """Refuse what could change no answer and no number."""
        where = f"data.benchmarks[{self.name}]"
        if self.source.on_bad_row == "error" and self.source.max_bad_share not in UNSET_BAD_SHARES:
            raise ConfigError(
                f"{where}.source.max_bad_share",
                "has no effect: the first bad row ends the command",
                value=self.source.max_bad_share,
                fix="leave it out, or set on_bad_row: skip",
            )
        if self.temperature == 0 and self.samples_per_problem > 1:
            raise ConfigError(
                f"{where}.samples_per_problem",
                "greedy decoding gives the same answer every time",
                value=self.samples_per_problem,
                fix="set samples_per_problem: 1, or a temperature above 0",
            )
        if self.temperature == 0 and self.top_p < 1:
            raise ConfigError(
                f"{where}.top_p",
                "has no effect: greedy decoding takes the likeliest token",
                value=self.top_p,
                fix="leave it out, or set a temperature above 0",
            )
        if self.reward and self.reward.terms != RewardConfig().terms and REWARD not in self.metrics:
            raise ConfigError(
                f"{where}.reward.terms",
                "has no effect: an evaluation counts right answers",
                value=self.reward.terms,
                fix="leave it out, or set metrics: [reward]",
            )

    def max_tokens(self, default: int) -> int:
        """Longest answer, in tokens."""
        return self.max_response_tokens or default

    def reward_of(self, reward: RewardConfig, max_response_tokens: int) -> RewardFunction:
        """What an answer is paid: its correctness, or all terms where the metric `reward` is asked.

        Args:
            reward: of the run, for a benchmark without its own.
            max_response_tokens: likewise.
        """
        if REWARD not in self.metrics:
            return correctness
        return build_reward_function(
            self.reward or reward, max_response_tokens=self.max_tokens(max_response_tokens)
        )

    @property
    def sampling(self) -> Sampling:
        """How an engine draws the answers."""
        return Sampling(temperature=self.temperature, top_p=self.top_p)


def check_benchmarks(benchmarks: Sequence[Benchmark], *, answers_per_chunk: int = 1) -> None:
    """Refuse two benchmarks of one name: tables, files and sampling seeds go by it."""
    check_bound("data.answers_per_chunk", answers_per_chunk, Bound(at_least=1, at_most=1e9))
    for name, count in Counter(benchmark.name for benchmark in benchmarks).items():
        if count > 1:
            raise ConfigError(
                "data.benchmarks",
                f"{count} entries have the same name",
                value=name,
                fix="give each its own name",
            )
