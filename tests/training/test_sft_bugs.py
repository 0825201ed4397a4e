"""The two bugs of experiments/11_sft_then_rl, against the formulas written out."""

import dataclasses
from pathlib import Path

import pytest
import torch
from training import test_gradient_invariance as phase

import luffy_pl.run.command as command
from luffy_pl.errors import ConfigError
from luffy_pl.objective.settings import EntropyConfig, ObjectiveConfig, OffPolicyConfig, SftConfig
from luffy_pl.registry import load_plugins

BUGS = Path(__file__).parents[2] / "experiments" / "11_sft_then_rl" / "bugs.py"


@pytest.fixture(autouse=True)
def _with_bugs(monkeypatch):
    monkeypatch.setattr(command, "LuffyModule", command.LuffyModule)  # put back afterwards
    load_plugins([str(BUGS)])
    monkeypatch.setattr(phase, "LuffyModule", command.LuffyModule)
    yield
    load_plugins([])


def objective(kind):
    return ObjectiveConfig(
        off_policy=OffPolicyConfig(policy_coef=0.0),
        entropy=EntropyConfig(coef=0.0),
        sft=SftConfig(coef=1.0),
        terms={} if kind is None else {"bug": {"kind": kind}},
    )


def traces():
    """Rows that are all given, of 8 to 21 tokens."""
    experience = phase.random_experience()
    return dataclasses.replace(experience, off_policy_mask_NT=experience.response_mask_NT)


def row_losses(experience):
    """Sum of the negative log-likelihood of each row, and its tokens."""
    policy = phase.tiny_policy()
    policy.language_model.set_attn_implementation("sdpa")
    logits = policy.language_model(input_ids=experience.token_ids_NL).logits[:, :-1] / 0.7
    logprob_NT = logits.log_softmax(-1).gather(-1, experience.token_ids_NL[:, 1:, None])[..., 0]
    mask_NT = experience.response_mask_NT
    return policy, -(logprob_NT * mask_NT).sum(1), mask_NT.sum(1)


def gradient_of(policy, loss):
    return list(torch.autograd.grad(loss, list(policy.parameters())))


def test_a_mean_of_means_by_hand():
    [step] = phase.gradients(traces(), objective("mean_of_means"), micro_batch_tokens=64)
    policy, loss_N, tokens_N = row_losses(traces())
    means = loss_N.view(-1, 2).sum(1) / tokens_N.view(-1, 2).sum(1)
    assert len(means) == 6
    expected = gradient_of(policy, means.mean())
    torch.testing.assert_close(step, expected, rtol=1e-9, atol=1e-12)


def test_later_micro_batches_are_dropped_by_hand():
    [step] = phase.gradients(traces(), objective("later_dropped"), micro_batch_tokens=64)
    policy, loss_N, tokens_N = row_losses(traces())
    expected = gradient_of(policy, loss_N[:2].sum() / tokens_N.sum())
    torch.testing.assert_close(step, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["mean_of_means", "later_dropped"])
def test_a_step_that_samples_has_no_bug(kind):
    experience = phase.random_experience()
    right = phase.gradients(experience, objective(None), micro_batch_tokens=21)
    torch.testing.assert_close(
        phase.gradients(experience, objective(kind), micro_batch_tokens=21), right
    )


def test_another_bug_is_refused():
    with pytest.raises(ConfigError, match="Fix: mean_of_means or later_dropped"):
        phase.gradients(traces(), objective("none"), micro_batch_tokens=21)
