"""Engines get the names and pieces that a checkpoint has, where a model fuses them."""

import pytest
import torch
from policy.families import tiny_model
from safetensors.torch import load_file

from luffy_pl.policy.policy import Policy
from luffy_pl.policy.saved_names import converted
from luffy_pl.rollout.policy_weights import PolicyWeights


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "llama"])
def test_what_is_sent_is_what_would_be_saved(tmp_path, family):
    tiny_model(family).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    policy = Policy(tiny_model(family))
    assert (policy.saved_conversion is None) == (family == "llama")
    weights = PolicyWeights(
        policy.state_dict(), "language_model.", conversion=policy.saved_conversion
    )
    sent = dict(weights)
    assert sent.keys() - {"lm_head.weight"} == saved.keys() - {"lm_head.weight"}
    for name, weight in saved.items():
        assert torch.equal(sent[name], weight), name
    outlines = [(name, one.shape, one.dtype) for name, one in weights.outlines()]
    assert outlines == [(name, weight.shape, weight.dtype) for name, weight in weights]
    own = policy.language_model.state_dict()
    assert dict(weights.in_model()).keys() == own.keys()


def test_no_more_than_a_layer_is_held():
    parts = []
    names = ["embed", "layers.0.a", "layers.0.b", "layers.1.a", "norm", "head"]
    weights = ((name, torch.ones(1)) for name in names)
    for _ in converted(weights, lambda part: parts.append(list(part)) or part):
        pass
    assert parts == [["embed"], ["layers.0.a", "layers.0.b"], ["layers.1.a"], ["norm"], ["head"]]
