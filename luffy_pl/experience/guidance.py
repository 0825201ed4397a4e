"""How much of an expert trace a guided row shows before the policy goes on by itself.

The whole trace is LUFFY; a part of it is prefix guidance, with the shares of the released code
(there `prefix_strategy`) and of Prefix-RFT (arXiv 2507.01679). Every draw is keyed by phase, place
and row, so all ranks agree and a resumed run draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.data.seeds import keyed_seed
from luffy_pl.errors import ConfigError
from luffy_pl.guidance.settings import PerPrompt
from luffy_pl.records import ExpertTrace, Source

NUM_WINDOWS = 10
"""Steps of the staircase of linear_max and reverse_linear."""


@dataclass(frozen=True)
class PrefixConfig:
    """The share of a trace that is shown."""

    strategy: Literal[
        "full", "random", "fixed", "linear", "linear_max", "reverse_linear", "cosine", "binomial"
    ] = "full"
    """full: all of it. random: uniform between the ratios. fixed: evenly spaced over the guided
    rows of a group. linear: falls from max_ratio to 0 over `phases`. linear_max, reverse_linear:
    uniform below a bound that falls to a tenth of max_ratio, or rises from it, in ten steps.
    cosine: uniform between max_ratio and a bound that falls from it to min_ratio (Prefix-RFT).
    binomial: so many of `pieces` equal pieces as come up in as many tries, each with a chance that
    falls along a cosine from max_ratio to min_ratio, and nothing after `phases` (UFT)."""
    min_ratio: float = bounded(0.0, at_least=0, at_most=1)
    """Smallest share of the trace's tokens."""
    max_ratio: float = bounded(1.0, at_least=0, at_most=1)
    """Largest share of the trace's tokens."""
    phases: int = bounded(500, at_least=1, at_most=1e9)
    """Phases over which a share moves."""
    pieces: int = bounded(5, at_least=1, at_most=1e6)
    """Pieces of a trace (binomial)."""
    shared: bool = False
    """All guided rows of a prompt show the same share."""
    when: Literal["always", "all_failed"] = "always"
    """all_failed: the group is sampled without a trace first, and only where every rollout fails,
    the guided rows take the places of the last ones (BREAD)."""
    levels: tuple[float, ...] | None = bounded(None, above=0, at_most=1)
    """Shares that are tried in turn after a failure, until a row is right; null: `strategy`."""
    per_prompt: PerPrompt | None = None
    """A share of its own for each prompt, which moves with success; null: `strategy`."""

    def __post_init__(self) -> None:
        check_bounds(self, "data.rollout.prefix")
        if self.min_ratio > self.max_ratio:
            raise ConfigError(
                "data.rollout.prefix.min_ratio",
                f"must be at most prefix.max_ratio={self.max_ratio}",
                value=self.min_ratio,
                fix="lower it, or raise max_ratio",
            )
        self._check_shares()
        if self.strategy == "fixed" and self.shared:
            raise ConfigError(
                "data.rollout.prefix.shared",
                "contradicts prefix.strategy=fixed, which spaces the rows of a prompt",
                value=True,
                fix="set shared: false, or strategy: random",
            )

    def _check_shares(self) -> None:
        """Two settings that say how much is shown, or one that cannot come about."""
        own = [name for name in ("levels", "per_prompt") if getattr(self, name) is not None]
        if self.strategy != "full":
            own.insert(0, "strategy")
        if len(own) > 1:
            raise ConfigError(
                f"data.rollout.prefix.{own[1]}",
                f"and prefix.{own[0]} contradict each other: each says how much is shown",
                value=getattr(self, own[1]),
                fix="leave one of them out",
            )
        if self.levels is not None and (self.when == "always" or not self.levels):
            raise ConfigError(
                "data.rollout.prefix.levels",
                "needs a share at least, and prefix.when=all_failed",
                value=list(self.levels),
                fix="set when: all_failed and levels: [0.25, 0.5], or leave levels out",
            )

    @property
    def is_partial(self) -> bool:
        """Whether any row shows less than all of a trace."""
        return self.strategy != "full" or bool(self.levels or self.per_prompt)


@dataclass(frozen=True)
class Given:
    """The beginning of a row that is not sampled; all of it if `is_complete`.

    `text` is that of a complete row. `logprobs` are its author's, in nats; None if not recorded.
    """

    source: Source
    token_ids: tuple[int, ...]
    is_complete: bool
    text: str = ""
    logprobs: tuple[float, ...] | None = None


def shown_ratio(config: PrefixConfig, *, phase: int, row: int, num_rows: int, draw: float) -> float:
    """The share for guided row `row` of `num_rows`; `draw` is uniform in [0, 1)."""
    low, high = config.min_ratio, config.max_ratio
    done = min(1.0, phase / config.phases)
    window = min(NUM_WINDOWS - 1, phase * NUM_WINDOWS // config.phases)
    match config.strategy:
        case "full":
            return 1.0
        case "fixed":
            return high if num_rows == 1 else low + (high - low) * row / (num_rows - 1)
        case "linear":
            return high * (1 - done)
        case "linear_max":
            return draw * high * (NUM_WINDOWS - window) / NUM_WINDOWS
        case "reverse_linear":
            return draw * high * (window + 1) / NUM_WINDOWS
        case "binomial":
            if phase >= config.phases:
                return 0.0
            chance = low + (high - low) * 0.5 * (1 + math.cos(math.pi * done))
            return binomial_quantile(draw, config.pieces, chance) / config.pieces
        case "cosine":
            low += (high - low) * 0.5 * (1 + math.cos(math.pi * done))
    return low + draw * (high - low)


def binomial_quantile(draw: float, num: int, chance: float) -> int:
    """How often something of this chance comes up in `num` tries; `draw` is uniform in [0, 1)."""
    total = 0.0
    for found in range(num):
        total += math.comb(num, found) * chance**found * (1 - chance) ** (num - found)
        if draw < total:
            return found
    return num


def given_rows(
    traces: Sequence[ExpertTrace],
    config: PrefixConfig,
    *,
    num_rows: int,
    phase: int,
    place: int | str,
    seed: int,
    prompt_id: str,
    max_tokens: int | None = None,
    share: float | None = None,
) -> tuple[Given, ...]:
    """The guided rows of one group; traces are taken in turn where there are fewer than rows.

    Args:
        place: of the prompt in the phase, over all ranks.
        max_tokens: of a response; None if there is no limit.
        share: of the trace, for all rows; None draws it as the strategy says.
    """
    rows = []
    for row in range(num_rows if traces else 0):
        key = 0 if config.shared else row
        draw = keyed_seed(seed, "prefix ratio", phase, place, prompt_id, key) / 2**31
        drawn = shown_ratio(config, phase=phase, row=row, num_rows=num_rows, draw=draw)
        ratio = drawn if share is None else share
        rows.append(shown(traces[row % len(traces)], ratio, max_tokens=max_tokens))
    return tuple(rows)


def shown(trace: ExpertTrace, ratio: float, *, max_tokens: int | None = None) -> Given:
    """The first floor(ratio * tokens) tokens, EOS counted; a row that shows none is a rollout.

    Less of a trace that is longer than a response may be: the policy has to add at least one token.
    """
    num_tokens = math.floor(ratio * len(trace.token_ids))
    is_complete = num_tokens == len(trace.token_ids)
    if not is_complete and max_tokens is not None:
        num_tokens = min(num_tokens, max_tokens - 1)
    return Given(
        source="expert" if is_complete else "prefix" if num_tokens else "rollout",
        token_ids=trace.token_ids[:num_tokens],
        is_complete=is_complete,
        text=trace.text if is_complete else "",
        logprobs=None if trace.logprobs is None else trace.logprobs[:num_tokens],
    )
