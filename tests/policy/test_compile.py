"""Compiled layers are the same function, compiled once for all packings."""

import pytest
import torch
from policy.test_packing import NUM_TOKENS, gradients, rows
from torch._dynamo.utils import counters
from training.test_gradient_invariance import tiny_policy

from luffy_pl.errors import ConfigError
from luffy_pl.policy import product
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_layers_have_the_same_gradients(tmp_path, monkeypatch, recompute):
    # As on a processor that takes its products from oneDNN.
    monkeypatch.setattr(product, "_ONEDNN", torch.ops.mkldnn._linear_pointwise)
    monkeypatch.setattr(product, "LEAST_NUMBERS", 1)
    tiny_policy().language_model.float().save_pretrained(tmp_path)
    torch._dynamo.reset()
    counters.clear()
    ids_NL, mask_NT = rows()
    plain, compiled = (
        load_policy(
            PolicyConfig(path="", activation_checkpointing=recompute, compile=compile),
            str(tmp_path),
        ).train()
        for compile in (False, True)
    )
    graphs = []
    for chosen in ([0, 1, 2], [2], [1, 0], [1]):
        of_rows = {"num_tokens": [NUM_TOKENS[row] for row in chosen], "temperature": 0.7}
        found, expected = (
            gradients(policy(ids_NL[chosen], mask_NT[chosen], **of_rows), policy)
            for policy in (compiled, plain)
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert len(set(graphs)) == 1


def test_what_is_fused_cannot_be_chosen_among():
    with pytest.raises(ConfigError, match=r"model\.policy\.compile"):
        PolicyConfig(path="", compile=True, activation_checkpointing="selective")
