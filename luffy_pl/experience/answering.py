"""Answer the problems of a benchmark, chunk by chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.experience.sampling import Collector, StageProgress, answered
from luffy_pl.experience.share import Share
from luffy_pl.experience.stream import SizedStream
from luffy_pl.records import Group
from luffy_pl.reward.reward import RewardConfig, Verifier
from luffy_pl.reward.terms import RewardFunction


@dataclass(frozen=True)
class GradedChunk:
    """Some problems of one benchmark, answered and graded, with their numbers in the set."""

    benchmark: Benchmark
    num_problems: int
    index: tuple[int, ...]
    groups: tuple[Group, ...]


def answer_streams(
    shares: Sequence[Share],
    *,
    collector: Collector,
    verifier_of: Callable[[RewardConfig | None], Verifier],
    reward_of: Callable[[Benchmark], RewardFunction],
    max_tokens: int,
    on_progress: StageProgress,
) -> list[SizedStream]:
    """Make a stream of graded chunks for each benchmark.

    Args:
        verifier_of: the verifier of a benchmark's own settings; the run's for None.
        reward_of: what a benchmark pays.
        max_tokens: longest answer where a benchmark sets none.
        on_progress: called with the name of the benchmark, the answers that are done, and all.
    """
    answer = partial(
        answer_chunk,
        collector=collector,
        verifier_of=verifier_of,
        reward_of=reward_of,
        max_tokens=max_tokens,
        on_progress=on_progress,
    )
    return [SizedStream(share.num_chunks, partial(answer, share)) for share in shares]


def answer_chunk(
    share: Share,
    step: int,
    *,
    collector: Collector,
    verifier_of: Callable[[RewardConfig | None], Verifier],
    reward_of: Callable[[Benchmark], RewardFunction],
    max_tokens: int,
    on_progress: StageProgress,
) -> GradedChunk:
    """Sample and grade one chunk of a rank's share; see `answer_streams` for the arguments.

    The answers are the same every time.
    """
    benchmark, missing = share.benchmark, share.missing(step)
    num_done = share.num_done(step)
    # Also where nothing is missing: an engine may be shared with a rank that misses some.
    fresh = answered(
        missing,
        share.seeds(missing, seed=collector.seed),
        max_tokens=benchmark.max_tokens(max_tokens),
        sampling=benchmark.sampling,
        collector=dataclasses.replace(
            collector, verifier=verifier_of(benchmark.reward), reward_of=reward_of(benchmark)
        ),
        on_progress=lambda done, _: on_progress(benchmark.name, num_done + done, share.num_answers),
    )
    return GradedChunk(
        benchmark, len(share.problems), tuple(share.chunk(step)), share.groups(step, fresh)
    )
