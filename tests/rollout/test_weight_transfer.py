"""The file from which servers read weights holds what an engine in this process is given."""

from unittest.mock import create_autospec

import torch
from safetensors.torch import load_file

from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.server_pool import ServerPool
from luffy_pl.rollout.weight_transfer import FileTransfer


def test_matrices_alone_are_rounded(tmp_path):
    """The correction of a router, which servers keep in float32, decides about experts."""
    own = {"p.gate": torch.full((2, 3), 5.01), "p.bias": torch.tensor([5.01, 5.02])}
    pool = create_autospec(ServerPool, instance=True, urls=["http://127.0.0.1:1"])
    transfer = FileTransfer(pool, folder=str(tmp_path), dtype=torch.bfloat16, rank=0)
    transfer.send(PolicyWeights(own, prefix="p."))
    [file] = tmp_path.rglob("*.safetensors")
    found = load_file(file)
    assert torch.equal(found["gate"], own["p.gate"].bfloat16())
    assert torch.equal(found["bias"], own["p.bias"])
