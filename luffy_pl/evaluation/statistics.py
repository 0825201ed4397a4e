"""How sure a number is: estimators and intervals over problems."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000


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
    """Unweighted mean over benchmarks of the paired difference (before, after) of each."""
    return macro_average(
        [after_P.double() - before_P.double() for before_P, after_P in per_benchmark]
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


def macro_average(per_benchmark: Sequence[Tensor], *, seed: int = 0) -> Estimate:
    """Unweighted mean over benchmarks; problems are resampled within each."""
    if any(len(value_P) == 0 for value_P in per_benchmark):
        return Estimate(math.nan, math.nan, math.nan)
    generator = torch.Generator().manual_seed(seed)
    means = []
    for value_P in per_benchmark:
        drawn_RP = torch.randint(len(value_P), (RESAMPLES, len(value_P)), generator=generator)
        means.append(value_P.double()[drawn_RP].mean(dim=1))
    mean_R = torch.stack(means).mean(dim=0)
    bounds = mean_R.quantile(torch.tensor([0.025, 0.975], dtype=torch.double))
    value = sum(v.double().mean().item() for v in per_benchmark) / len(per_benchmark)
    return Estimate(value, *bounds.tolist())
