"""Gates by hand, on one token and on one row, and that at one step they are the plain ratio."""

import math

import pytest
import torch

from luffy_pl.objective.gate import Detached, Difference, PpoClip, Soft
from luffy_pl.objective.loss import sequence_ratio

from .test_loss import PLAIN, loss_and_gradient, random_batch, token

DOUBLE = torch.float64


@pytest.mark.parametrize(
    ("gate", "p", "advantage", "loss", "gradient"),
    [
        # p_old is 0.4 throughout: ratio = p / 0.4; unclipped the gradient by log p is -A r
        (Detached(None, 0.25), 0.3, 2.0, -1.5, -1.5),  # within
        (Detached(None, 0.25), 0.6, 2.0, -2.5, -2.5),  # 1.5 -> 1.25, and still a gradient
        (Detached(None, 0.25), 0.6, -2.0, 2.5, 2.5),  # whatever the sign
        (Detached(0.2, None), 0.2, 2.0, -1.6, -1.6),  # 0.5 -> 0.8
        (Difference(0.1, 0.1, None), 0.45, 2.0, -2.25, -2.25),  # + 0.05
        (Difference(0.1, 0.1, None), 0.6, 2.0, 0.0, 0.0),  # + 0.2 with A > 0: dropped
        (Difference(0.1, 0.1, None), 0.6, -2.0, 3.0, 3.0),  # against A: kept
        (Difference(0.1, 0.1, None), 0.2, -2.0, 0.0, 0.0),  # - 0.2 with A < 0: dropped
        (Difference(0.1, 0.1, None), 0.2, 2.0, -1.0, -1.0),
        (Difference(None, None, 1.2), 0.6, 2.0, -2.4, -2.4),  # 1.5 -> 1.2
        # 4/tau sigmoid(tau (1.5 - 1)), slope r 4 s (1 - s)
        (Soft(1.0, 2.0), 0.6, 1.0, -4 * 0.62245933, -1.5 * 4 * 0.62245933 * 0.37754067),
        (Soft(1.0, 2.0), 0.6, -1.0, 2 * 0.73105858, 1.5 * 4 * 0.73105858 * 0.26894142),
        (Soft(1.0, 2.0), 0.6, 0.0, 0.0, 0.0),
    ],
)
def test_one_token_by_hand(gate, p, advantage, loss, gradient):
    got = token(p, old=0.4, advantage=advantage, gate=gate)
    assert got == pytest.approx((loss, gradient), abs=1e-8)


def test_the_ratio_of_a_row_is_the_geometric_mean_of_its_tokens():
    logprob = torch.tensor([[0.6, 0.2, 0.9], [0.5, 0.5, 0.5]], dtype=DOUBLE).log().requires_grad_()
    old = torch.tensor([[0.4, 0.4, 0.1], [0.5, 0.5, 0.5]], dtype=DOUBLE).log()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    ratio = sequence_ratio(logprob, old, mask)
    assert ratio[0].tolist() == pytest.approx([math.sqrt(1.5 * 0.5)] * 3)
    assert ratio[1].tolist() == [1.0] * 3
    # The mean over the row's tokens has the gradient of the row's ratio: s / 2 by each.
    (ratio * mask).sum().div(2).backward()
    assert logprob.grad[0].tolist() == pytest.approx([math.sqrt(0.75) / 2] * 2 + [0.0])


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": "sequence"},
        {"ratio": "sequence", "gate": PpoClip(3e-4, 4e-4)},
        {"gate": PpoClip()},
        {"gate": Detached()},
        {"gate": Soft()},
        {"gate": Difference()},
    ],
    ids=["sequence", "gspo", "clip", "cispo", "sapo", "dppo"],
)
def test_where_the_policy_has_not_moved_the_gradient_is_that_of_the_plain_ratio(options):
    batch = random_batch(5)
    _, moved_NT = loss_and_gradient(batch, PLAIN | options)
    batch["old_logprob_NT"] = batch["logprob_NT"]
    _, plain_NT = loss_and_gradient(batch, PLAIN)
    _, found_NT = loss_and_gradient(batch, PLAIN | options)
    torch.testing.assert_close(found_NT, plain_NT, rtol=1e-10, atol=1e-12)
    # And where it has, it is another.
    assert not torch.allclose(moved_NT, found_NT)


def test_a_row_of_a_sequence_ratio_has_the_gradient_of_its_ratio():
    """Against the formula of a whole row: -A min(s, clip(s)), with s = exp(mean of the gaps)."""
    batch = random_batch(6)
    off_NT, mask_NT = batch["off_policy_mask_NT"], batch["response_mask_NT"]
    batch["off_policy_mask_NT"] = torch.zeros_like(off_NT)
    logprob_NT = batch["logprob_NT"].clone().requires_grad_()
    count_N = mask_NT.sum(1).clamp(min=1)
    gap_N = ((logprob_NT - batch["old_logprob_NT"]) * mask_NT).sum(1) / count_N
    s_N, advantage_N = gap_N.exp(), batch["advantage_N"]
    clipped_N = torch.minimum(advantage_N * s_N, advantage_N * s_N.clamp(0.98, 1.01))
    (-clipped_N * (mask_NT.any(1))).sum().backward()
    gate = {"ratio": "sequence", "gate": PpoClip(0.02, 0.01)}
    weight_NT = mask_NT.double() / count_N[:, None]
    _, found_NT = loss_and_gradient(batch, PLAIN | gate, weight_NT)
    torch.testing.assert_close(found_NT, logprob_NT.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("gate", [PpoClip(None, None), Detached(None, None)])
def test_a_gate_without_bounds_is_the_plain_ratio(gate):
    batch = random_batch(7)
    _, plain_NT = loss_and_gradient(batch, PLAIN)
    _, found_NT = loss_and_gradient(batch, PLAIN | {"gate": gate})
    torch.testing.assert_close(found_NT, plain_NT, rtol=1e-12, atol=1e-15)
