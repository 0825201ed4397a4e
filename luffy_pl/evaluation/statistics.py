"""How sure a number is: estimators and intervals over problems."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000
NORMAL = 1.959964
"""97.5% quantile of the standard normal distribution."""
Span = tuple[float, float]
SHARE: Span = (0.0, 1.0)
DIFFERENCE: Span = (-1.0, 1.0)
"""Range of a difference of two shares."""


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def share_over_problems(value_P: Tensor) -> Estimate:
    """Mean over P problems of a share in [0, 1], such as that of right answers to a problem.

    Where each problem is right or wrong, Wilson's score interval for the number of right ones
    (Wilson 1927; Brown, Cai and DasGupta 2001): 256 of 256 is [0.985, 1], and not [1, 1] as
    resampling has it. Else by bootstrap, which `macro_average` keeps from ending in a point.
    """
    num_problems = len(value_P)
    if num_problems and ((value_P == 0) | (value_P == 1)).all():
        return wilson(int(value_P.sum()), num_problems)
    return macro_average([value_P], span=SHARE)


def wilson(num_right: int, num: int) -> Estimate:
    """A share of `num` draws, at least one, with Wilson's 95% score interval."""
    share, spread = num_right / num, NORMAL**2 / num
    centre = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = ((centre + sign * half) / (1 + spread) for sign in (-1, 1))
    # At the edges rounding must not leave [0, 1], nor stop short of it.
    return Estimate(share, low if num_right else 0.0, high if num_right < num else 1.0)


def bootstrap_mean(value_P: Tensor, *, seed: int = 0) -> Estimate:
    """Mean over P problems; percentile interval of means over resampled problems.

    Problems are drawn, not samples: answers to one problem are alike, and counting them as
    independent would make the interval too narrow (Miller 2024, arXiv 2411.00640).
    """
    return macro_average([value_P], seed=seed)


def bootstrap_ratio(
    numerator_P: Tensor, denominator_P: Tensor, *, seed: int = 0
) -> Estimate | None:
    """Sum over sum of P problems, such as tokens of right answers over right answers.

    Problems are resampled as in `bootstrap_mean`; a resample whose denominator is 0 has no ratio
    and is left out. None if the denominator of all problems is 0.
    """
    if not denominator_P.sum() > 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    num_problems = len(denominator_P)
    drawn_RP = torch.randint(num_problems, (RESAMPLES, num_problems), generator=generator)
    above_R, below_R = (
        value_P.double()[drawn_RP].sum(dim=1) for value_P in (numerator_P, denominator_P)
    )
    ratio_R = (above_R / below_R)[below_R > 0]
    bounds = ratio_R.quantile(torch.tensor([0.025, 0.975], dtype=torch.double))
    value = numerator_P.double().sum() / denominator_P.double().sum()
    return Estimate(value.item(), *bounds.tolist())


def paired_difference(before_P: Tensor, after_P: Tensor) -> Estimate:
    """Mean of after - before over the same P problems.

    Pairing takes out what makes a problem hard for both: the interval is narrower than that of
    two separate means.
    """
    return paired_macro_average([(before_P, after_P)])


def paired_macro_average(per_benchmark: Sequence[tuple[Tensor, Tensor]]) -> Estimate:
    """Unweighted mean over benchmarks of the paired difference (before, after) of shares."""
    return macro_average(
        [after_P.double() - before_P.double() for before_P, after_P in per_benchmark],
        span=DIFFERENCE,
    )


def majority(answers: Sequence[str | None]) -> int | None:
    """Index of the first answer that most others repeat word for word; the earlier one of a tie.

    None is no vote; without any vote there is no majority.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    return answers.index(votes.most_common(1)[0][0]) if votes else None


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that k of the samples, drawn without replacement, hold a correct one.

    Unbiased (Chen et al. 2021, arXiv 2107.03374, equation 1).
    """
    if num_samples - num_correct < k:
        return 1.0
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def powers_of_two(largest: int) -> list[int]:
    """1, 2, 4, ... up to `largest`: the k of a curve of pass@k."""
    return [1 << exponent for exponent in range(largest.bit_length())]


def macro_average(
    per_benchmark: Sequence[Tensor], *, span: Span | None = None, seed: int = 0
) -> Estimate:
    """Unweighted mean over benchmarks; problems are resampled within each.

    Args:
        span: the least and the largest value that a problem can have; None if there are none. With
            it a benchmark whose problems all have one value, which resampling takes for certain,
            widens the interval by what problems that were not seen could be.
    """
    if any(len(value_P) == 0 for value_P in per_benchmark):
        return Estimate(math.nan, math.nan, math.nan)
    generator = torch.Generator().manual_seed(seed)
    means = []
    for value_P in per_benchmark:
        drawn_RP = torch.randint(len(value_P), (RESAMPLES, len(value_P)), generator=generator)
        means.append(value_P.double()[drawn_RP].mean(dim=1))
    mean_R = torch.stack(means).mean(dim=0)
    low, high = mean_R.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    value = sum(v.double().mean().item() for v in per_benchmark) / len(per_benchmark)
    if span is not None:
        below, above = zip(*(unseen(value_P, span) for value_P in per_benchmark), strict=True)
        low -= sum(below) / len(per_benchmark)
        high += sum(above) / len(per_benchmark)
    return Estimate(value, low, high)


def unseen(value_P: Tensor, span: Span) -> tuple[float, float]:
    """How far below and above a value that all P problems have their mean may lie; else 0, 0.

    None of P problems has another value, so at most a share u of all problems does, the upper end
    of Wilson's interval for 0 of P; and these could have the least or the largest value.
    """
    value = value_P[0].item()
    if not (value_P == value).all():
        return 0.0, 0.0
    share = wilson(0, len(value_P)).high
    return share * (value - span[0]), share * (span[1] - value)
