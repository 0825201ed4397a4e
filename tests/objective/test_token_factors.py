"""Factors of tokens and rows, by hand."""

import math

import pytest
import torch

from luffy_pl.errors import ConfigError
from luffy_pl.objective.settings import SftConfig
from luffy_pl.objective.token_factors import (
    EntropyWeight,
    entropy_row_weight,
    mismatch_weight,
    rare_token_weight,
    sft_token_weight,
    top_entropy_mask,
)

NAN = float("nan")


def test_the_mismatch_is_a_capped_ratio_inside_the_mask():
    old = torch.tensor([[0.5, 0.2, 0.9, 0.3]]).log()
    sampler = torch.tensor([[0.25, 0.4, 0.1, NAN]]).log()
    mask = torch.tensor([[True, True, True, False]])
    found = mismatch_weight(old, sampler, mask_NT=mask, cap=3.0)
    # 0.5 / 0.25, 0.2 / 0.4, 0.9 / 0.1 capped, and no reading off the mask.
    assert found.tolist() == [pytest.approx([2.0, 0.5, 3.0, 1.0])]


def test_a_rare_token_counts_more():
    logprob = torch.tensor([[0.19, 1.0, 0.5, NAN]], dtype=torch.float64).log()
    mask = torch.tensor([[True, True, False, False]])
    assert rare_token_weight(logprob, mask, exponent=0.5).tolist() == [[0.9, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        # Of four masked tokens 1, 1, 2, 2, 4: rounded up.
        (0.01, [1]), (0.25, [1]), (0.26, [1, 4]), (0.5, [1, 4]), (1.0, [0, 1, 3, 4]),
    ],
)  # fmt: skip
def test_the_share_of_tokens_with_the_highest_entropy(share, kept):
    entropy = torch.tensor([[0.1, 0.9, 5.0, 0.2, 0.9]])
    mask = torch.tensor([[True, True, False, True, True]])
    found = top_entropy_mask(entropy, mask, share=share)
    assert found.nonzero()[:, 1].tolist() == kept


def test_of_equal_tokens_the_earlier_and_of_no_tokens_none():
    entropy = torch.tensor([[0.5, 0.5, 0.5], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [False, False, False]])
    assert top_entropy_mask(entropy, mask, share=0.5).tolist() == [[True, True, False], [False] * 3]


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        ("one", [1, 1, 1, 1]),
        ("probability", [1, 0.5, 0.25, 0.1]),
        ("p_one_minus_p", [0, 0.25, 0.1875, 0.09]),
    ],
)
def test_weights_of_imitated_tokens(kind, by_hand):
    logprob = torch.tensor([[1.0, 0.5, 0.25, 0.1]]).log().requires_grad_()
    found = sft_token_weight(logprob, kind)
    assert found.tolist() == [pytest.approx(by_hand)]
    assert not found.requires_grad


def test_the_weight_of_a_row_is_an_exponential_of_its_mean_entropy():
    entropy = torch.tensor([[1.0, 3.0, NAN], [0.5, 7.0, 7.0], [NAN, NAN, NAN]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
    found = entropy_row_weight(entropy, mask, EntropyWeight(scale=0.5, power=-1.0))
    # Means 2 and 0.5; a row without tokens counts as certain.
    assert found[:, 0].tolist() == pytest.approx([0.5 * math.exp(-2), 0.5 * math.exp(-0.5), 0.5])
    assert entropy_row_weight(entropy, mask, None).tolist() == [[1.0]] * 3


def test_a_scale_below_zero():
    where = r"^model\.objective\.sft\.row_weight\.scale: must be at least 0"
    with pytest.raises(ConfigError, match=where):
        SftConfig(row_weight=EntropyWeight(scale=-1))
