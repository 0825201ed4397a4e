"""What is counted for a benchmark.

A benchmark may name metrics of its own: functions of the graded answers to one problem, a Group,
whose values are averaged over problems; None leaves a problem out.

Shapes: P problems of the benchmark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from luffy_pl import registry
from luffy_pl.errors import ConfigError, VerifierError
from luffy_pl.evaluation.results import METRICS
from luffy_pl.evaluation.statistics import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    majority,
    pass_at_k,
    powers_of_two,
    share_over_problems,
)
from luffy_pl.records import Group
from luffy_pl.registry import described, register

OfGroup = Callable[[Group], float | None]
COUNTS = (
    "graded",
    "correct",
    "majority",
    "no_answer",
    "truncated",
    "timeout",
    "tokens",
    "tokens_correct",
    "tokens_incorrect",
    "samples",
)


class BenchmarkMetric(Metric):
    """Per-problem counts, summed over ranks; a problem is counted where it was answered.

    Args:
        num_problems: problems of the whole benchmark, over all ranks.
        extra: metrics that the benchmark names, by their name.
    """

    full_state_update = False
    graded: Tensor
    correct: Tensor
    majority: Tensor
    no_answer: Tensor
    truncated: Tensor
    timeout: Tensor
    tokens: Tensor
    tokens_correct: Tensor
    tokens_incorrect: Tensor
    samples: Tensor

    def __init__(
        self, num_problems: int, *, extra: Mapping[str, OfGroup] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extra = dict(extra or {})
        for name in (*COUNTS, *map(metric_state, self.extra)):
            self.add_state(name, torch.zeros(num_problems), dist_reduce_fx="sum")

    def update(self, index: Sequence[int], groups: Sequence[Group]) -> None:
        """Add the graded answers to the problems numbered `index`; a problem comes once."""
        for problem, group in zip(index, groups, strict=True):
            # Not the reward: that may hold more than whether an answer is right.
            verdicts = [response.verdict.correct for response in group.responses]
            for response, correct in zip(group.responses, verdicts, strict=True):
                status, num_tokens = response.verdict.status, len(response.token_ids)
                self.samples[problem] += 1
                self.graded[problem] += correct is not None
                self.correct[problem] += correct is True
                self.no_answer[problem] += status == "no_answer"
                self.truncated[problem] += response.finish_reason == "length"
                self.timeout[problem] += status in ("timeout", "crash", "refused")
                self.tokens[problem] += num_tokens
                self.tokens_correct[problem] += num_tokens * (correct is True)
                self.tokens_incorrect[problem] += num_tokens * (correct is False)
            voted = majority([response.verdict.extracted for response in group.responses])
            self.majority[problem] += voted is not None and verdicts[voted] is True
            for name, function in self.extra.items():
                getattr(self, metric_state(name))[problem] += measured(name, function, group)

    def compute(self) -> dict[str, Any]:
        """The row of a results table: n problems that could be graded, k answers to each.

        avg, pass and maj are shares of right answers, of problems solved within k, and of right
        majorities. no_answer, truncated and timeout are shares of answers; tokens, their mean
        length; tokens_correct and tokens_incorrect, that of right and of wrong answers, of which
        there are <name>_n (None where there are none). Each has its interval in <name>_low and
        <name>_high, but avg in low and high. pass_at: pass@1, 2, 4, ... up to k. metrics: value and
        interval of each metric that the benchmark names, if it names any.
        """
        usable = self.graded > 0
        graded, correct = (state[usable].int().tolist() for state in (self.graded, self.correct))
        k = min(graded, default=0)
        accuracy = share_over_problems(self.accuracy())
        row: dict[str, Any] = {"n": len(graded), "k": k, "avg": accuracy.value}
        row |= {"low": accuracy.low, "high": accuracy.high}
        row |= estimate_columns("pass", solved_within(k, graded, correct))
        row["pass_at"] = {
            str(few): dataclasses.asdict(solved_within(few, graded, correct))
            for few in powers_of_two(k)
        }
        row |= estimate_columns("maj", share_over_problems(self.majority[usable].cpu()))
        for name in ("no_answer", "truncated", "timeout", "tokens"):
            per_answer = (getattr(self, name)[usable] / self.samples[usable]).cpu()
            of_problems = bootstrap_mean if name == "tokens" else share_over_problems
            row |= estimate_columns(name, of_problems(per_answer))
        for name, count in (
            ("tokens_correct", self.correct),
            ("tokens_incorrect", self.graded - self.correct),
        ):
            row |= estimate_columns(name, bootstrap_ratio(getattr(self, name).cpu(), count.cpu()))
            row[f"{name}_n"] = int(count.sum())
        if self.extra:
            row["metrics"] = {name: self.averaged(name) for name in self.extra}
        return row

    def averaged(self, name: str) -> dict[str, float | None]:
        """Mean and interval of one of `extra`, over the problems that it says something about."""
        values = getattr(self, metric_state(name))[self.samples > 0].cpu()
        estimate = bootstrap_mean(values[~values.isnan()])
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

    def accuracy(self) -> Tensor:
        """Share of correct answers of each problem that could be graded, [P]."""
        usable = self.graded > 0
        return (self.correct[usable] / self.graded[usable]).cpu()

    def problems(self) -> dict[int, dict[str, int]]:
        """Counts of each problem that was answered, by its number."""
        return {
            number: {name: int(getattr(self, name)[number]) for name in COUNTS}
            for number in self.samples.nonzero().flatten().tolist()
        }


def solved_within(k: int, graded: Sequence[int], correct: Sequence[int]) -> Estimate:
    """Mean pass@k over problems with so many graded and correct answers."""
    solved = [pass_at_k(n, c, k) for n, c in zip(graded, correct, strict=True)]
    return share_over_problems(torch.tensor(solved))


def estimate_columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """An estimate as columns of a row; None where there is none."""
    ends = (None, None, None) if estimate is None else dataclasses.astuple(estimate)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def extra_metrics(names: Sequence[str], *, where: str) -> dict[str, OfGroup]:
    """The functions behind the metrics that a benchmark names."""
    for name in names:
        if name in METRICS:
            raise ConfigError(
                where, "is a metric that every benchmark has", value=name, fix="choose another name"
            )
    return {name: registry.find("metric", name, where=where) for name in names}


def metric_state(name: str) -> str:
    """What the values of one of them are kept as."""
    return f"extra_{name}"


def measured(name: str, function: OfGroup, group: Group) -> float:
    """The value for one problem; NaN where there is none.

    Raises:
        VerifierError: the function fails or returns no finite number.
    """
    try:
        value = function(group)
        number = math.nan if value is None else float(value)
        if value is not None and not math.isfinite(number):
            raise ValueError(f"{number} is not finite")
    except Exception as error:  # foreign code fails as it likes
        raise VerifierError(
            f"metric {name}",
            f"fails on the answers to problem {group.prompt.id!r}",
            value=described(error),
            fix="correct the function, or leave it out",
        ) from error
    return number


@register("metric", "distinct")
def distinct(group: Group) -> float:
    """Share of different answers among those to one problem."""
    answers = [response.verdict.extracted for response in group.responses]
    return len(set(answers)) / len(answers)


@register("metric", "reward")
def mean_reward(group: Group) -> float | None:
    """Mean of what all terms of the reward pay for an answer, as in training."""
    rewards = [reward for reward in group.rewards if reward is not None]
    return sum(rewards) / len(rewards) if rewards else None


@register("metric", "paid")
def paid(group: Group) -> float | None:
    """Mean of what the grader pays for an answer: values of its own, else 1 if it is right."""
    verdicts = [response.verdict for response in group.responses]
    values = [
        float(verdict.correct) if verdict.reward is None else verdict.reward
        for verdict in verdicts
        if verdict.correct is not None
    ]
    return sum(values) / len(values) if values else None
