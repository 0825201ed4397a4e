"""Weights gathered in buckets and in the engine's type are those gathered one by one."""

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from luffy_pl.policy import gathering
from luffy_pl.policy.gathering import whole_weights


class Blocks(nn.Module):
    """Weights whose rows no two or four ranks share evenly, and one of a single row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(7, rows) for rows in (5, 9, 1, 13))
        self.large = nn.Embedding(301, 7)
        self.register_buffer("whole", torch.arange(3))


def counted(monkeypatch):
    """Elements of each collective."""
    sent, real = [], dist.all_gather_into_tensor

    def gather(into, own, **options):
        sent.append((own.dtype, into.numel()))
        return real(into, own, **options)

    monkeypatch.setattr(gathering.dist, "all_gather_into_tensor", gather)
    return sent


def compare(mesh, sent):
    """In buckets of 1 KiB: matrices and vectors of all layers, then the embedding alone."""
    model = Blocks()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    fully_shard(model, mesh=mesh)
    state = model.state_dict()
    sent.clear()
    found = dict(whole_weights(state.items(), dtype=torch.bfloat16))
    assert [dtype for dtype, _ in sent] == [torch.bfloat16, torch.float32]
    assert list(found) == list(expected)
    for name, value in expected.items():
        is_cast = value.dim() > 1
        assert torch.equal(found[name], value.bfloat16() if is_cast else value), name
        assert not isinstance(found[name], DTensor)
    plain = dict(whole_weights(state.items()))
    assert all(torch.equal(plain[name], value) for name, value in expected.items())


def main():
    dist.init_process_group("gloo")
    ranks = dist.get_world_size()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(gathering, "BUCKET_BYTES", 1024)
        sent = counted(monkeypatch)
        compare(init_device_mesh("cpu", (ranks,)), sent)
        if ranks == 4:
            names = ("replicate", "shard")
            compare(init_device_mesh("cpu", (2, 2), mesh_dim_names=names), sent)
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.long)])
def test_buckets_hold_the_weights_of_all_ranks(luffy_pl, ranks):
    done = luffy_pl(script=__file__, ranks=ranks, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
