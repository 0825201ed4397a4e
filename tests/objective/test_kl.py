import math

import pytest
import torch

from luffy_pl.objective.kl import kl_estimate


def test_by_hand():
    # p = 0.5, reference 0.25: d = log 2; k3 = 1/2 - 1 + log 2
    logprob, reference = torch.tensor([0.5, 0.25], dtype=torch.float64).log()
    log2 = math.log(2)
    assert kl_estimate(logprob, reference, "k1").item() == pytest.approx(log2)
    assert kl_estimate(reference, logprob, "k1").item() == pytest.approx(-log2)
    assert kl_estimate(reference, logprob, "abs").item() == pytest.approx(log2)
    assert kl_estimate(logprob, reference, "k2").item() == pytest.approx(log2**2 / 2)
    assert kl_estimate(logprob, reference, "k3").item() == pytest.approx(log2 - 0.5)
    # the other way round: exp(log 2) - 1 - log 2
    assert kl_estimate(reference, logprob, "k3").item() == pytest.approx(1 - log2)


def test_k3_is_bounded_and_its_gradient_finite_far_away():
    logprob = torch.tensor([-1e4, -100.0, -3.0, 0.0, 100.0], requires_grad=True)
    estimate = kl_estimate(logprob, torch.zeros(5), "k3")
    estimate.sum().backward()
    # exp(3) - 1 - 3 = 16.1 is already above the bound
    assert estimate.tolist() == [10.0, 10.0, 10.0, 0.0, 10.0]
    assert logprob.grad.tolist() == [0.0] * 5


@pytest.mark.parametrize("kind", ["k1", "abs", "k2", "k3"])
def test_gradients(kind: str):
    logprob = torch.linspace(-3, -0.1, 20, dtype=torch.float64, requires_grad=True)
    reference = torch.full((20,), -1.0, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: kl_estimate(x, reference, kind), logprob)


def test_k1_and_k3_average_to_the_divergence():
    # exact expectation under the policy: sum p * estimate = KL(policy, reference)
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.4, 0.4, 0.2])
    divergence = (policy * (policy / reference).log()).sum()
    for kind in ("k1", "k3"):
        expectation = (policy * kl_estimate(policy.log(), reference.log(), kind)).sum()
        torch.testing.assert_close(expectation, divergence)
