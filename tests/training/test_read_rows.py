"""Rows without a gradient are only read, and what a step does after that is no other."""

import copy
import dataclasses

import pytest
import torch
from distributed.test_dealt_rows import OBJECTIVE, counted
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from training.test_gradient_invariance import random_experience, tiny_policy

from luffy_pl.objective.terms import OptimizerStep, active_terms
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import FrozenModels
from luffy_pl.policy.lora import whole
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.sharding import Sharding, meshes, shard_policy
from luffy_pl.training.micro_batches import learned_and_read, micro_batches
from luffy_pl.training.minibatch import Before, Seen, backward_micro_batches


@pytest.fixture
def world():
    """One rank that shards its weights over itself, as it does to keep them on the host."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    names = ("data_parallel", "tensor_parallel")
    yield meshes(init_device_mesh("cpu", (1, 1), mesh_dim_names=names), replicas=1)
    dist.destroy_process_group()


def cut(record, rows):
    return micro_batches(record, rows, token_budget=60, shares_prompts=True)


def gradients(policy):
    """Of a step in which the last of four groups has no advantage, by weight."""
    policy.train()
    record = random_experience()
    advantage_N = record.advantage_N.masked_fill(record.group_N == 3, 0.0)
    record = dataclasses.replace(record, advantage_N=advantage_N)
    rows = list(range(len(advantage_N)))
    step = OptimizerStep(
        OBJECTIVE,
        terms=active_terms(OBJECTIVE, 0, entropy_coef=0.0, kl_coef=0.0, foreign={}),
        totals=counted(record, rows),
        max_response_tokens=16,
    )
    micros = learned_and_read(record, rows, step, cut, num_ranks=1)
    assert [micro.is_learned for micro in micros] == sorted(
        (micro.is_learned for micro in micros), reverse=True
    )
    assert not micros[-1].is_learned
    old_NT = torch.full_like(record.behaviour_logprob_NT, torch.nan, dtype=torch.double)
    backward_micro_batches(
        policy, micros, step=step, forwards=ForwardCount(), before=Before(old_NT),
        frozen=FrozenModels({}), seen=Seen.like(old_NT), backward=torch.Tensor.backward,
    )  # fmt: skip
    return [whole(weight.grad) for weight in policy.trained_weights()]


def test_weights_that_were_gathered_to_read_have_their_gradients(world):
    one = tiny_policy()
    sharded = Policy(copy.deepcopy(one.language_model))
    shard_policy(sharded, Sharding(world, torch.device("cpu"), torch.float64))
    for found, wanted in zip(gradients(sharded), gradients(one), strict=True):
        assert wanted.any()
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)  # reduced in float32
