"""The divergence over the vocabulary against the plain formula, in values, gradients and memory."""

import itertools

import pytest
import torch

from luffy_pl.policy.divergence import Divergence, TeacherHead, token_divergence
from luffy_pl.policy.logits import LogitTransform

DOUBLE = torch.float64
SMALL = {"chunk_tokens": 3, "tile_logits": 12}


def head(seed, *, tokens=7, hidden=5, words=13, bias=True, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return scale * torch.randn(*shape, generator=generator, dtype=DOUBLE)

    return [normal(tokens, hidden), normal(words, hidden), normal(words) if bias else None]


def plain(own, teacher, divergence, *, transform, teacher_transform, temperature):
    """The formula on whole logits."""
    logits = []
    for (hidden, weight, bias), change in ((own, transform), (teacher, teacher_transform)):
        z = change.scale * (hidden @ weight.T + (0.0 if bias is None else bias))
        z = z if change.cap is None else change.cap * torch.tanh(z / change.cap)
        logits.append(z / temperature)
    logp, logq = (x.log_softmax(-1) for x in logits)
    if divergence.top_k is not None:
        words = logits[1].topk(divergence.top_k, dim=-1).indices
        logp, logq = logp.gather(-1, words), logq.gather(-1, words)
        if divergence.tail:
            logp, logq = (
                torch.cat((x, torch.log1p(-x.exp().sum(-1, keepdim=True))), -1)
                for x in (logp, logq)
            )
        else:
            logp, logq = logp.log_softmax(-1), logq.log_softmax(-1)
    p, q, beta = logp.exp(), logq.exp(), divergence.beta
    if beta == 0:
        return (q * (logq - logp)).sum(-1)
    if beta == 1:
        return (p * (logp - logq)).sum(-1)
    m = beta * q + (1 - beta) * p
    kl_q, kl_p = (q * (logq - m.log())).sum(-1), (p * (logp - m.log())).sum(-1)
    return beta * kl_q + (1 - beta) * kl_p


def value_and_gradients(compute, own, weight_M):
    leaves = [None if one is None else one.clone().requires_grad_() for one in own]
    found = compute(leaves)
    (found * weight_M).sum().backward()
    return [found.detach(), *(one.grad for one in leaves if one is not None)]


CAP = LogitTransform(scale=0.7, cap=2.0)
KINDS = [
    *(Divergence(beta) for beta in (0.0, 0.3, 0.5, 0.9, 1.0)),
    *(Divergence(beta, 4, tail) for beta in (0.0, 0.5, 1.0) for tail in (False, True)),
]


@pytest.mark.parametrize("divergence", KINDS, ids=str)
@pytest.mark.parametrize("change", [LogitTransform(), CAP], ids=["plain", "cap"])
def test_value_and_gradient_are_those_of_the_plain_formula(divergence, change):
    own, teacher = head(1), head(2, hidden=8)
    weight_M = torch.linspace(-1, 2, 7, dtype=DOUBLE)
    settings = {"transform": change, "temperature": 0.7}

    def chunked(leaves):
        return token_divergence(
            leaves[0], leaves[1], TeacherHead(*teacher, LogitTransform(0.5)), divergence,
            bias_V=leaves[2], **settings, **SMALL,
        )  # fmt: skip

    def formula(leaves):
        return plain(leaves, teacher, divergence, teacher_transform=LogitTransform(0.5), **settings)

    found = value_and_gradients(chunked, own, weight_M)
    wanted = value_and_gradients(formula, own, weight_M)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("divergence", [Divergence(0.5), Divergence(0.5, 4, True)], ids=str)
def test_tiles_change_nothing_and_the_derivative_is_the_derivative(divergence):
    own, teacher = head(3, bias=False), TeacherHead(*head(4))

    def compute(hidden, weight, **tile):
        return token_divergence(hidden, weight, teacher, divergence, **tile)

    whole = compute(*own[:2])
    for tokens, logits in itertools.product((1, 3, 99), (1, 12, 10_000)):
        found = compute(*own[:2], chunk_tokens=tokens, tile_logits=logits)
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-14)
    inputs = [one.clone().requires_grad_() for one in own[:2]]
    assert torch.autograd.gradcheck(lambda h, w: compute(h, w, **SMALL), inputs)


def test_equal_heads_have_none_and_a_teacher_may_have_more_words():
    hidden, weight, bias = head(5)
    for divergence in KINDS:
        same = token_divergence(
            hidden, weight, TeacherHead(hidden, weight, bias), divergence, bias_V=bias
        )
        assert same.abs().max() < 1e-12
    padded = TeacherHead(hidden, torch.cat((weight, weight)), torch.cat((bias, bias + 9)))
    narrow = weight.clone().requires_grad_()
    found = token_divergence(hidden, narrow, padded, Divergence(0.5), bias_V=bias)
    assert found.abs().max() < 1e-12
    # Padding of the policy's own head takes no part and has no gradient.
    wide = torch.cat((weight, weight)).requires_grad_()
    token_divergence(hidden, wide, TeacherHead(*head(6)), Divergence(0.5)).sum().backward()
    assert (wide.grad[:13] != 0).all()
    assert (wide.grad[13:] == 0).all()


def test_certain_distributions_stay_finite():
    own, teacher = head(7, scale=60.0), TeacherHead(*head(8, scale=60.0))
    for divergence in KINDS:
        leaves = [one.clone().requires_grad_() for one in own[:2]]
        found = token_divergence(*leaves, teacher, divergence)
        found.sum().backward()
        assert found.isfinite().all()
        assert all(one.grad.isfinite().all() for one in leaves)


@torch.no_grad()
def test_at_beta_1_it_is_the_expectation_of_the_sampled_form():
    """Of log p - log q over words drawn from the policy, within 4 standard errors."""
    own, teacher = head(9, bias=False), head(10)
    logp = (own[0] @ own[1].T).log_softmax(-1)
    logq = (teacher[0] @ teacher[1].T + teacher[2]).log_softmax(-1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(logp.exp(), 20_000, replacement=True, generator=generator)
    sampled = (logp - logq).gather(1, drawn)
    error = sampled.std(1) / sampled.shape[1] ** 0.5
    whole = token_divergence(own[0], own[1], TeacherHead(*teacher), Divergence(1.0))
    assert ((sampled.mean(1) - whole).abs() < 4 * error).all()
    assert (error < 0.1 * whole).all()


def test_the_expected_gradient_of_the_sampled_form_is_that_at_beta_1():
    """Sum over words of p (log p - log q) grad log p: the policy gradient of distillation."""
    own, teacher = head(11, bias=False), head(12, bias=False)
    leaves = [one.clone().requires_grad_() for one in own[:2]]
    found = token_divergence(*leaves, TeacherHead(*teacher), Divergence(1.0), **SMALL)
    exact = torch.autograd.grad(found.sum(), leaves)
    logp = (leaves[0] @ leaves[1].T).log_softmax(-1)
    logq = (teacher[0] @ teacher[1].T).log_softmax(-1)
    credit = (logp - logq).detach() * logp.exp().detach()
    torch.testing.assert_close(torch.autograd.grad((credit * logp).sum(), leaves), exact)


def test_no_tensor_is_as_large_as_tokens_by_vocabulary():
    """Of 400 tokens and 5,000 words, tiles of 20,000 logits are all that is ever there."""
    own = head(13, tokens=400, words=5_000, bias=False)
    teacher = TeacherHead(*head(14, tokens=400, words=5_000, bias=False))
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            largest.extend(
                one.numel() for one in (out if isinstance(out, tuple | list) else (out,))
                if isinstance(one, torch.Tensor)
            )  # fmt: skip
            return out

    leaves = [one.clone().requires_grad_() for one in own[:2]]
    for divergence in (Divergence(0.5), Divergence(0.5, 8, True)):
        with Watch():
            found = token_divergence(
                *leaves, teacher, divergence, chunk_tokens=100, tile_logits=20_000
            )
            found.sum().backward()
    # The gradient of the head is the largest, 5,000 words by 5; the logits would be 2,000,000.
    assert max(largest) <= 25_000
