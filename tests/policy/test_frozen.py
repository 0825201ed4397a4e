"""Frozen models: what they hold, when they follow the policy, and what is refused of them."""

import pytest
import torch

from luffy_pl.bundled import resolve
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.objective.settings import KlConfig, ObjectiveConfig
from luffy_pl.policy.frozen import FrozenConfig, check_frozen
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training.module import LuffyModule

BASE = resolve("bundled:base")
ADAPTERS = LoraConfig(rank=4)
IDS, MASK = torch.tensor([[5, 3, 7, 2, 9]]), torch.ones(1, 4, dtype=torch.bool)


def module_with(*, lora=None, **frozen):
    """A module whose KL names the model `other`."""
    module = LuffyModule(
        PolicyConfig(BASE, lora=lora),
        ObjectiveConfig(kl=KlConfig(coef=0.1, model="other")),
        frozen={"other": FrozenConfig(**frozen)},
    )
    module.configure_model()
    return module


@torch.no_grad()
def score(policy):
    return policy(IDS, MASK, num_tokens=(5,), temperature=1.0)[0]


def frozen_score(module):
    with module.frozen.scoring("other") as policy:
        return score(policy)


@torch.no_grad()
def train(module, seed):
    """What a phase does to the weights."""
    generator = torch.Generator().manual_seed(seed)
    for weight in module.policy.trained_weights():
        weight.add_(0.05 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("lora", [None, ADAPTERS], ids=["whole", "adapters"])
def test_a_copy_is_taken_again_every_n_phases(lora):
    module = module_with(lora=lora, weights="copy", every_n_phases=2)
    start = score(module.policy)
    seen = []
    for phase in (1, 2, 3):
        train(module, phase)
        module.frozen.follow(module.policy, phase)
        own, frozen = score(module.policy), frozen_score(module)
        assert torch.equal(score(module.policy), own)  # scoring left the policy as it was
        seen.append((own, frozen))
    (first, kept), (second, copied), (third, still) = seen
    assert torch.equal(kept, start)
    assert torch.equal(copied, second)
    assert torch.equal(still, second)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@pytest.mark.parametrize("lora", [None, ADAPTERS], ids=["whole", "adapters"])
def test_a_moving_average_goes_a_share_of_the_way(lora):
    module = module_with(lora=lora, weights="ema", rate=0.25)
    [model] = module.frozen.follows.values()
    kept = list(model.parameters())
    before = [weight.clone() for weight in kept]
    train(module, 1)
    module.frozen.follow(module.policy, 1)
    own = module.policy.trained_weights()
    for old, weight, now in zip(before, own, kept, strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * weight)
    assert not any(weight.requires_grad for weight in kept)


def test_adapters_that_follow_cost_no_second_base():
    module = module_with(lora=ADAPTERS, weights="copy")
    adapters = sum(weight.numel() for weight in module.policy.trained_weights())
    assert sum(weight.numel() for weight in module.following.parameters()) == adapters


def test_what_follows_is_saved_and_nothing_else():
    saved = module_with(weights="copy")
    assert any(name.startswith("following.other.") for name in saved.state_dict())
    for weights in ({"weights": "start"}, {"weights": "path", "path": BASE}):
        names = module_with(**weights).state_dict()
        assert all(name.startswith("policy.") for name in names)


def test_two_names_of_the_same_weights_are_loaded_once():
    module = LuffyModule(
        PolicyConfig(BASE),
        ObjectiveConfig(kl=KlConfig(coef=0.1, model="teacher")),
        frozen={"teacher": FrozenConfig("path", path=BASE)},
    )
    assert module.objective.frozen_models() == {"model.objective.kl.model": "teacher"}
    module.configure_model()
    with module.frozen.scoring("teacher") as teacher:
        assert torch.equal(score(teacher), score(module.policy))


def test_a_teacher_without_weights_is_named_by_its_own_setting(tmp_path):
    with pytest.raises(ModelError, match=r"model\.frozen\.other\.path: no model can be loaded"):
        module_with(weights="path", path=str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weights": "start", "rate": 0.1}, "rate: has no effect with weights: start"),
        ({"weights": "copy", "path": "x"}, "path: has no effect with weights: copy"),
        ({"weights": "path"}, "path: is not set"),
        ({"weights": "ema", "rate": 1.5}, "rate: must be above 0 and at most 1"),
        ({"weights": "copy", "every_n_phases": 0}, "every_n_phases: must be at least 1"),
        ({"weights": "server"}, "url: is no address"),
        ({"weights": "server", "url": "host:8000"}, "url: is no address, got 'host:8000'"),
        ({"weights": "path", "path": "x", "timeout_s": 9.0}, "timeout_s: has no effect with"),
    ],
)
def test_wrong_fields(fields, said):
    with pytest.raises(ConfigError) as raised:
        FrozenConfig(**fields)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("frozen", "named", "said"),
    [
        ({"teacher": FrozenConfig()}, "techer", "got 'techer'. Fix: did you mean teacher?"),
        ({}, "teacher", "Fix: use one of start"),
        ({"a": FrozenConfig(), "b": FrozenConfig()}, "a", "model.frozen.b: is used by nothing"),
        ({"start": FrozenConfig("copy")}, "start", "model.frozen.start.weights: is what the run"),
        ({"a.b": FrozenConfig()}, "a.b", "letters, digits and _ alone"),
    ],
)
def test_names_that_lead_nowhere(frozen, named, said):
    with pytest.raises(ConfigError) as raised:
        check_frozen(frozen, {"model.objective.kl.model": named})
    assert said in str(raised.value)
