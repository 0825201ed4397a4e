"""What is handed to vLLM's transfer, told by stand-ins; nothing is sent."""

from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import torch

from luffy_pl.rollout.engine import ServerConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.server_pool import ServerPool


@pytest.fixture
def nccl_transfer(vllm):
    from luffy_pl.rollout import nccl_transfer

    return nccl_transfer


@pytest.fixture
def transfer(monkeypatch, nccl_transfer):
    """Of the rank on GPU 5, to two servers of two workers."""
    factory = create_autospec(nccl_transfer.WeightTransferTrainerFactory)
    monkeypatch.setattr(nccl_transfer, "WeightTransferTrainerFactory", factory)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    pool = create_autospec(ServerPool, instance=True)
    pool.everywhere.return_value = [{"world_size": 2}, {"world_size": 2}]
    made = nccl_transfer.NcclTransfer(pool, ServerConfig(), dtype=torch.bfloat16, rank=1)
    return SimpleNamespace(made=made, asked=factory.trainer_init)


def test_the_group_is_this_trainer_and_all_workers(transfer):
    transfer.made.send(PolicyWeights({"w": torch.ones(2)}, prefix=""))
    transfer.made.send(PolicyWeights({"w": torch.ones(2)}, prefix=""))
    (joined,), more = transfer.asked.call_args
    assert (joined.world_size, joined.rank, transfer.asked.call_count) == (5, 1, 1)
    assert more["source"]._device == torch.device("cuda", 5)


def test_weights_that_are_on_the_host_are_sent_from_the_device(nccl_transfer):
    """As an offloaded policy has them: vLLM's communicator takes tensors of its device alone."""
    source = nccl_transfer._Source(torch.bfloat16, torch.device("meta"))
    source.weights = PolicyWeights({"p.w": torch.ones(2, 3), "p.v": torch.ones(1)}, prefix="p.")
    sent = dict(source)
    assert {name: (weight.device.type, weight.dtype) for name, weight in sent.items()} == {
        "w": ("meta", torch.bfloat16),
        "v": ("meta", torch.float32),  # an engine may keep a vector in it
    }
    assert [(one.name, one.dtype, one.shape) for one in source.metadata()] == [
        (name, weight.dtype, tuple(weight.shape)) for name, weight in sent.items()
    ]
