"""What a model does to its logits is found in its own forward pass, and done to the policy's."""

import pytest
import torch
from policy.families import CASES, gap, own_logprobs, tiny_model
from policy.test_head import M, computed, dense, gradients, head_and_tokens

from luffy_pl.errors import ModelError
from luffy_pl.policy.logits import LogitTransform
from luffy_pl.policy.policy import Policy

# Family, what its configuration says, and what follows: logits z become scale z, or
# cap tanh(scale z / cap).
MODELS = [
    ("llama", {}, LogitTransform()),
    ("granite", {"logits_scaling": 8.0}, LogitTransform(1 / 8)),
    ("hyperclovax", {"logits_scaling": 3.0}, LogitTransform(3.0)),
    ("cohere", {"logit_scale": 0.3}, LogitTransform(0.3)),
    # MiniCPM3 divides what the head reads, and not what leaves it.
    ("minicpm3", {}, LogitTransform()),
    (
        "gemma2",
        {"final_logit_softcapping": 5.0, "attn_logit_softcapping": None},
        LogitTransform(cap=5.0),
    ),
    ("gemma3_text", {"final_logit_softcapping": 30.0}, LogitTransform(cap=30.0)),
    ("nanochat", {"final_logit_softcapping": 15.0}, LogitTransform(cap=15.0)),
    # A further layer before its head.
    ("modernbert-decoder", {}, LogitTransform()),
]
TRANSFORMS = [LogitTransform(0.3), LogitTransform(cap=1.5), LogitTransform(2.0, cap=4.0)]


def applied(transform, z):
    """f(z) by its formula."""
    if transform.cap is None:
        return transform.scale * z
    return transform.cap * torch.tanh(transform.scale * z / transform.cap)


@pytest.mark.parametrize(("family", "settings", "expected"), MODELS, ids=[m[0] for m in MODELS])
def test_the_transform_is_that_of_the_model(family, settings, expected):
    policy = Policy(tiny_model(family, **settings))
    assert policy.transform.scale == pytest.approx(expected.scale, rel=1e-6)
    assert policy.transform.cap == (expected.cap and pytest.approx(expected.cap, rel=1e-6))
    own = tiny_model(family, **settings)
    assert max(gap(policy, own, *case) for case in CASES) < 1e-4


@pytest.mark.parametrize("family", ["granite", "gemma3_text", "modernbert-decoder"])
def test_gradients_are_those_of_the_model(family):
    settings = {"final_logit_softcapping": 5.0} if family == "gemma3_text" else {}
    policy, own = Policy(tiny_model(family, **settings)), tiny_model(family, **settings)
    ids_NL = torch.randint(3, 90, (2, 30), generator=torch.Generator().manual_seed(0))
    ids_NL[1, :6] = ids_NL[0, :6]
    mask_NT = torch.ones(2, 29, dtype=torch.bool)
    found_NT, _ = policy(ids_NL, mask_NT, num_tokens=(30, 30), num_shared=(0, 6), temperature=1.0)
    found_NT.sum().backward()
    with torch.enable_grad():
        for ids_L in ids_NL:
            logits_TV = own(input_ids=ids_L[None]).logits[0, :-1]
            logits_TV.log_softmax(-1).gather(-1, ids_L[1:, None]).sum().backward()
    for (name, one), other in zip(
        policy.language_model.named_parameters(), own.parameters(), strict=True
    ):
        assert (one.grad - other.grad).norm() <= 1e-4 * max(1.0, other.grad.norm()), name


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("kept_logits", [0, None])
def test_the_head_in_chunks_equals_the_dense_result(transform, temperature, kept_logits):
    head, hidden_MH, target_M = head_and_tokens(torch.float64)
    leaves = [hidden_MH, head.weight, head.bias]
    settings = {"chunk_tokens": 5, "tile_logits": 20, "kept_logits": kept_logits}
    ours = computed(
        hidden_MH, head, target_M, transform=transform, temperature=temperature, **settings
    )
    expected = dense(applied(transform, head(hidden_MH)), target_M, temperature)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        gradients(ours, leaves, entropy_weight=0.7),
        gradients(expected, leaves, entropy_weight=0.7),
        atol=1e-12,
        rtol=1e-12,
    )


def test_without_transform_no_bit_changes():
    head, hidden_MH, target_M = head_and_tokens(torch.float32)
    plain = computed(hidden_MH, head, target_M, temperature=0.6)
    given = computed(hidden_MH, head, target_M, temperature=0.6, transform=LogitTransform())
    for one, other in zip(given, plain, strict=True):
        assert torch.equal(one, other)
    assert len(plain[0]) == M


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits**3,
        lambda logits: logits + 1,
        # Of one word alone, as where padded words are ruled out.
        lambda logits: logits.index_fill(-1, torch.tensor([7]), -1e9),
    ],
)
def test_any_other_change_is_refused(monkeypatch, change):
    model = tiny_model("llama")
    forward = type(model).forward

    def changed(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = change(output.logits)
        return output

    monkeypatch.setattr(type(model), "forward", changed)
    with pytest.raises(ModelError, match="neither a factor nor a soft cap"):
        Policy(model)


def test_a_model_that_returns_more_is_compared_as_any():
    """Router losses beside the logits."""
    settings = {"output_router_logits": True}
    policy = Policy(tiny_model("qwen3_moe", **settings))
    assert gap(policy, tiny_model("qwen3_moe", **settings), *CASES[2]) < 1e-4


def test_a_hidden_state_reaches_the_head_once():
    ids_L = torch.arange(12) + 3
    expected_T = own_logprobs(tiny_model("llama"), ids_L)
    policy = Policy(tiny_model("llama"))
    policy.language_model.set_attn_implementation("sdpa")  # its head is its own again
    torch.testing.assert_close(own_logprobs(policy.language_model, ids_L), expected_T)
