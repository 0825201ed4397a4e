from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from luffy_pl.bundled import resolve
from luffy_pl.errors import ModelError
from luffy_pl.objective.settings import KlConfig, ObjectiveConfig
from luffy_pl.policy.head import token_logprob_and_entropy
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.recompute import KEPT
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training.module import LuffyModule

BASE = PolicyConfig(path="bundled:base")


def logprobs_and_gradient(config):
    policy = load_policy(config, resolve(config.path)).train()
    ids_NL = torch.arange(2 * 12).view(2, 12) % 27
    mask_NT = torch.ones(2, 11, dtype=torch.bool)
    mask_NT[0, :4] = False
    logprob_NT, entropy_NT = policy(ids_NL, mask_NT, num_tokens=(12, 12), temperature=1.0)
    (logprob_NT.sum() + entropy_NT.sum()).backward()
    return logprob_NT.detach(), [parameter.grad for parameter in policy.parameters()]


def test_outside_the_mask_there_is_nothing():
    logprob_NT, _ = logprobs_and_gradient(BASE)
    assert (logprob_NT[0, :4] == 0).all()
    assert (logprob_NT[0, 4:] < 0).all()


def test_activation_checkpointing_changes_no_number():
    plain = logprobs_and_gradient(BASE)
    recomputed = logprobs_and_gradient(
        PolicyConfig(path="bundled:base", activation_checkpointing=True)
    )
    torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


def test_padding_on_the_right_is_invisible():
    policy = load_policy(BASE, resolve(BASE.path)).eval()
    ids_NL = torch.randint(2, 27, (1, 9))
    mask_NT = torch.ones(1, 8, dtype=torch.bool)
    alone, _ = policy(ids_NL, mask_NT, num_tokens=(9,), temperature=1.0)
    padded_ids = torch.nn.functional.pad(ids_NL, (0, 5), value=4)
    padded_mask = torch.nn.functional.pad(mask_NT, (0, 5))
    padded, _ = policy(padded_ids, padded_mask, num_tokens=(9,), temperature=1.0)
    torch.testing.assert_close(padded[:, :8], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_a_reference_is_loaded_only_for_a_kl_term(kl_coef):
    module = LuffyModule(BASE, ObjectiveConfig(kl=KlConfig(coef=kl_coef)))
    module.configure_model()
    if not kl_coef:
        with pytest.raises(KeyError):
            module.frozen.scoring("start")
        return
    with module.frozen.scoring("start") as reference:
        assert reference is not module.policy
        assert not any(p.requires_grad for p in reference.parameters())


def test_a_folder_without_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"model\.policy\.path: no model can be loaded"):
        load_policy(PolicyConfig(path=str(tmp_path)), str(tmp_path))


class Operations(TorchDispatchMode):
    """How often each operation ran."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def test_selective_checkpointing_computes_no_product_again():
    counts, gradients = {}, {}
    for which in (False, "selective", True):
        config = PolicyConfig(path="bundled:base", activation_checkpointing=which)
        policy = load_policy(config, resolve("bundled:base")).train()
        ids_NL = torch.randint(12, (2, 9), generator=torch.Generator().manual_seed(0))
        mask_NT = torch.ones(2, 8, dtype=torch.bool)
        with Operations() as seen:
            logprob_NT, _ = policy(ids_NL, mask_NT, num_tokens=(9, 9), temperature=1.0)
            logprob_NT.sum().backward()
        counts[which] = seen.counts
        gradients[which] = [weight.grad for weight in policy.parameters()]
    products = {which: sum(found[name] for name in KEPT) for which, found in counts.items()}
    assert products["selective"] == products[False] < products[True]
    silu = {which: found["aten::silu"] for which, found in counts.items()}
    assert silu["selective"] == silu[True] == 2 * silu[False]
    for which in ("selective", True):
        for one, other in zip(gradients[which], gradients[False], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_head_in_float32_beside_layers_in_bfloat16(autocast):
    torch.manual_seed(0)
    hidden_MH, weight_VH = 3 * torch.randn(40, 16), torch.randn(50, 16)
    target_M = torch.randint(50, (40,))
    low = [x.bfloat16() for x in (hidden_MH, weight_VH)]
    exact, _ = token_logprob_and_entropy(*(x.double() for x in low), target_M)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        rounded, _ = token_logprob_and_entropy(*low, target_M)
        found, _ = token_logprob_and_entropy(*low, target_M, in_float32=True)
    assert (rounded - exact).abs().max() > 1e-2
    assert (found - exact).abs().max() < 1e-4
    config = PolicyConfig(path="bundled:base", dtype="bfloat16", head_dtype="float32")
    assert load_policy(config, resolve("bundled:base")).head_in_float32
