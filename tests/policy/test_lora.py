"""Adapters: which layers get one, what trains, and what weights they make."""

import pytest
import torch
from policy.families import tiny_model

from luffy_pl.bundled import resolve
from luffy_pl.callbacks.checkpoint import SPARE, PhaseCheckpoint
from luffy_pl.errors import ConfigError
from luffy_pl.objective.settings import KlConfig, ObjectiveConfig
from luffy_pl.policy import lora
from luffy_pl.policy.lora import LoraConfig, merged_weights, plain_weights
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training.module import LuffyModule

BASE = resolve("bundled:base")
RANK_4 = LoraConfig(rank=4, alpha=8.0)


def adapted(seed=0, **changes):
    return load_policy(PolicyConfig(BASE, **{"lora": RANK_4, **changes}), BASE, seed=seed)


def with_random_adapters(policy):
    """As if trained: a fresh B is 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.trained_weights():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return policy


def test_a_merge_by_hand():
    layer = "model.layers.0.q_proj"
    weights = {
        "model.norm.weight": torch.tensor([5.0]),
        f"{layer}.base_layer.weight": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        f"{layer}.base_layer.bias": torch.tensor([7.0, 8.0]),
        f"{layer}.lora_A.default.weight": torch.tensor([[1.0, 0.0, -1.0]]),
        f"{layer}.lora_B.default.weight": torch.tensor([[1.0], [3.0]]),
    }
    found = dict(merged_weights(weights, scale=2.0))
    assert list(found) == ["model.norm.weight", f"{layer}.weight", f"{layer}.bias"]
    # 2 B A is [[2, 0, -2], [6, 0, -6]]
    assert found[f"{layer}.weight"].tolist() == [[3.0, 2.0, 1.0], [10.0, 5.0, 0.0]]
    assert found[f"{layer}.bias"].tolist() == [7.0, 8.0]
    assert [name for name, _, _ in plain_weights(weights)] == list(found)


def test_alpha_over_rank_is_the_factor():
    assert LoraConfig(rank=4, alpha=8.0).scale == 2.0
    layer = adapted().language_model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == RANK_4.scale


def test_only_adapters_are_trained():
    plain, policy = load_policy(PolicyConfig(BASE), BASE), adapted()
    assert type(policy.language_model) is type(plain.language_model)
    assert len(plain.trained_weights()) == len(list(plain.parameters()))
    trained = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    # 2 layers of 7 linear layers, A and B each
    assert len(trained) == len(policy.trained_weights()) == 2 * 7 * 2
    assert all("lora_" in name for name in trained)
    module = LuffyModule(PolicyConfig(BASE, lora=RANK_4))
    module.configure_model()
    [built] = module.configure_optimizers()
    assert len(built["optimizer"].param_groups[0]["params"]) == len(trained)


def test_the_reference_is_the_policy_without_its_adapters():
    objective = ObjectiveConfig(kl=KlConfig(coef=0.1))
    module = LuffyModule(PolicyConfig(BASE, lora=RANK_4), objective)
    module.configure_model()
    for weight in module.policy.trained_weights():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))

    def logprobs(policy):
        ids, mask = torch.tensor([[5, 3, 7, 2]]), torch.ones(1, 3, dtype=torch.bool)
        return policy(ids, mask, num_tokens=(4,), temperature=1.0)[0]

    plain = logprobs(load_policy(PolicyConfig(BASE), BASE))
    with module.frozen.scoring("start") as reference:
        assert torch.equal(logprobs(reference), plain)
    assert not torch.equal(logprobs(module.policy), plain)
    assert len(module.policy.trained_weights()) == 2 * 7 * 2


def test_a_checkpoint_has_moments_of_adapters_alone():
    module = LuffyModule(PolicyConfig(BASE, lora=RANK_4))
    module.configure_model()
    adapters = sum(weight.numel() for weight in module.policy.trained_weights())
    base = sum(weight.numel() for weight in load_policy(PolicyConfig(BASE), BASE).parameters())
    wanted = 4 * (base + 3 * adapters) * SPARE
    assert PhaseCheckpoint()._num_bytes(module) == int(wanted)


def test_target_modules_choose():
    policy = adapted(lora=LoraConfig(target_modules=("q_proj", "down_proj")))
    named = {name.split(".lora_")[0] for name, _ in policy.named_parameters() if "lora_" in name}
    assert {name.rpartition(".")[2] for name in named} == {"q_proj", "down_proj"}
    assert len(named) == 2 * 2


def test_experts_beside_a_layer_of_that_name_get_none():
    """The shared expert of Qwen3-Next has a gate_proj, as others had in each expert once."""
    model = tiny_model("qwen3_next")
    layers = lora.adapted_layers(model, None)
    assert any(name.endswith("shared_expert.gate_proj") for name in layers)
    before = [name for name, _ in model.named_parameters()]
    lora.add_adapters(model, RANK_4, seed=0)
    weights = dict(model.named_parameters())
    assert sorted(name for name, _, of in plain_weights(weights) if of) == sorted(
        f"{name}.weight" for name in layers
    )
    assert [name for name, _, _ in plain_weights(weights)] == before


def test_the_start_is_the_base_and_of_the_seed():
    state = torch.get_rng_state()
    one, same, other = adapted(3), adapted(3), adapted(4)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = [
        zip(one.trained_weights(), two.trained_weights(), strict=True) for two in (same, other)
    ]
    assert all(torch.equal(a, b) for a, b in pairs[0])
    assert not all(torch.equal(a, b) for a, b in pairs[1])
    plain = load_policy(PolicyConfig(BASE), BASE).language_model.state_dict()
    found = dict(merged_weights(one.language_model.state_dict(), scale=2.0))
    assert list(found) == list(plain)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def logprobs(policy):
    ids_NL = torch.arange(2 * 12).view(2, 12) % 27
    mask_NT = torch.ones(2, 11, dtype=torch.bool)
    return policy(ids_NL, mask_NT, num_tokens=(12, 12), temperature=1.0)[0]


def test_merged_weights_compute_what_adapters_do():
    policy = with_random_adapters(adapted()).double()
    plain = load_policy(PolicyConfig(BASE), BASE).double()
    base = logprobs(plain)
    weights = merged_weights(policy.language_model.state_dict(), scale=RANK_4.scale)
    plain.language_model.load_state_dict(dict(weights))
    assert (logprobs(policy) - base).abs().max() > 0.1
    torch.testing.assert_close(logprobs(plain), logprobs(policy), rtol=0, atol=1e-10)


def test_beside_bfloat16_adapters_are_float32():
    policy = with_random_adapters(adapted(dtype="bfloat16"))
    frozen = {w.dtype for w in policy.parameters() if not w.requires_grad}
    assert frozen == {torch.bfloat16}
    assert {w.dtype for w in policy.trained_weights()} == {torch.float32}
    weights = dict(merged_weights(policy.language_model.state_dict(), scale=RANK_4.scale))
    assert weights["model.layers.0.mlp.up_proj.weight"].dtype == torch.float32
    logprobs(policy).sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in policy.trained_weights())


@pytest.mark.parametrize("which", [True, "selective"])
def test_recomputed_layers_have_the_same_gradients(which):
    """Nothing that enters the first layer asks for a gradient: the embedding is frozen."""
    gradients = []
    for recomputes in (False, which):
        policy = with_random_adapters(adapted(activation_checkpointing=recomputes)).train()
        logprobs(policy).sum().backward()
        assert all(
            weight.grad is None for weight in policy.parameters() if not weight.requires_grad
        )
        gradients.append([weight.grad for weight in policy.trained_weights()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("lm_head", "embedding and head stay as they are, got 'lm_head'"),
        ("embed_tokens", "embedding and head stay as they are, got 'embed_tokens'"),
        ("qproj", "no linear layer has the name, got 'qproj'"),
        ("norm", "no linear layer has the name, got 'norm'"),
    ],
)
def test_what_gets_no_adapter_is_refused(target, says):
    with pytest.raises(ConfigError) as refused:
        adapted(lora=LoraConfig(target_modules=("q_proj", target)))
    assert says in str(refused.value)
    assert "Fix: choose among down_proj, gate_proj, k_proj" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"target_modules": ()}])
def test_values_out_of_bounds_name_their_field(wrong):
    [name] = wrong
    with pytest.raises(ConfigError, match=rf"model\.policy\.lora\.{name}: .* Fix: "):
        LoraConfig(**wrong)


def test_without_peft_it_is_one_line(monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package peft.*Fix: pip install peft"):
        adapted()
