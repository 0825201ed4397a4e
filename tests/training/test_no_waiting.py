"""Nothing in the loop over micro-batches waits for the device.

A tensor on the meta device has no numbers: whoever wants one on the host gets an error. What runs
through there, a GPU runs without being waited for.
"""

import contextlib
import dataclasses

import pytest
import torch
from training.test_gradient_invariance import random_experience, tiny_policy

from luffy_pl.objective.gate import PpoClip
from luffy_pl.objective.normalize import count_terms
from luffy_pl.objective.settings import ObjectiveConfig, OnPolicyConfig, SftConfig
from luffy_pl.objective.terms import OptimizerStep, active_terms
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.training.micro_batches import micro_batches, silent
from luffy_pl.training.minibatch import Before, Seen, backward_micro_batches

ROWS = list(range(12))


def run(experience, policy, *, silent_ones=0):
    """Forward and backward passes of a minibatch, as a run does them; returns the loss."""
    on_policy, sft = OnPolicyConfig(gate=PpoClip()), SftConfig(coef=0.5)
    objective = ObjectiveConfig(on_policy=on_policy, sft=sft)
    micros = micro_batches(experience, ROWS, token_budget=40, shares_prompts=True)
    assert len(micros) > 2
    micros += silent_ones * [silent(experience)]
    old_NT = torch.full_like(experience.behaviour_logprob_NT, torch.nan, dtype=torch.double)
    step = OptimizerStep(
        objective,
        terms=active_terms(objective, 0, entropy_coef=0.001, kl_coef=0.0, foreign={}),
        totals=count_terms(experience, ROWS, objective),
        max_response_tokens=16,
    )
    done = backward_micro_batches(
        policy,
        micros,
        step=step,
        forwards=ForwardCount(),
        before=Before(old_NT),
        frozen=FrozenModels({}),
        seen=Seen.like(old_NT),
        backward=torch.Tensor.backward,
    )
    return done.losses


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """The meta device has none to ask about."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())


def test_a_minibatch_reads_no_number_from_the_device():
    experience = random_experience().to("meta")
    policy = tiny_policy().to("meta")
    losses = run(experience, policy, silent_ones=1)
    assert losses.device.type == "meta"
    assert all(weight.grad is not None for weight in policy.parameters())


def test_without_the_record_on_the_host_it_would_have_to():
    experience = dataclasses.replace(random_experience().to("meta"), host=None)
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        run(experience, tiny_policy().to("meta"))
