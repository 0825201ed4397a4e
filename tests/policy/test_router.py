"""The load-balancing loss of routers is what transformers computes of the rows alone."""

import logging

import pytest
import torch
from policy.families import CASES, drawn_rows, own_model, tiny_model

from luffy_pl.errors import ConfigError
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.recompute import recompute_layers
from luffy_pl.policy.router import token_balance
from luffy_pl.training.policy_check import about_routers, say_routers

FAMILIES = ["qwen3_moe", "mixtral", "granitemoe", "gpt_oss", "olmoe", "qwen3_next"]


def logits_of(*probabilities):
    """Of one router: tokens by experts."""
    return torch.tensor(probabilities).log()


def test_the_parts_of_tokens_by_hand():
    first = logits_of((0.75, 0.25), (0.25, 0.75), (0.25, 0.75))
    second = logits_of((0.75, 0.25), (0.75, 0.25), (0.75, 0.25))
    # Of 6 choices the first expert has 4. Its share times its probability, and so on; E / L is 1.
    share, other = 4 / 6, 2 / 6
    often, seldom = 0.75 * share + 0.25 * other, 0.25 * share + 0.75 * other
    expected = [often + often, seldom + often, seldom + often]
    found = token_balance([first, second], 1, torch.arange(3))
    assert found.tolist() == pytest.approx(expected)


def test_a_token_that_rows_share_counts_in_each_of_them():
    first = logits_of((0.75, 0.25), (0.25, 0.75))
    found = token_balance([first], 1, torch.tensor([0, 1, 1]))
    apart = token_balance([first[[0, 1, 1]]], 1, torch.arange(3))
    assert found.tolist() == pytest.approx(apart.tolist())
    # Shares 1/3 and 2/3, times two experts.
    assert found.tolist() == pytest.approx([2 * (0.25 + 0.5 / 3), 2 * (0.25 / 3 + 0.5), 7 / 6])


def test_experts_that_are_used_alike_cost_as_many_as_a_token_has():
    even = torch.zeros(6, 4) + torch.eye(4)[torch.arange(6) % 4] * 1e-6
    assert token_balance([even], 3, torch.arange(6)).mean().item() == pytest.approx(3, abs=0.2)
    one = torch.full((6, 4), -1e9).index_fill(1, torch.tensor([2]), 1e9)
    assert token_balance([one], 1, torch.arange(6)).mean().item() == pytest.approx(4)


def both(family, case, *, recomputes=False):
    """The loss by the policy and by the model's own padded pass, with both models."""
    model, own = tiny_model(family), own_model(family)
    recompute_layers(model, recomputes)
    policy = Policy(model).train()
    num_tokens, num_shared = case
    ids_NL, mask_NT = drawn_rows(num_tokens, num_shared)
    *_, balance_NT = policy(
        ids_NL,
        mask_NT & (torch.arange(mask_NT.shape[1]) > 4),  # what is predicted is another matter
        num_tokens=num_tokens,
        num_shared=num_shared,
        temperature=1.0,
        balances=True,
    )
    assert balance_NT.shape == mask_NT.shape
    assert (balance_NT[~mask_NT] == 0).all()
    expected = own(
        input_ids=ids_NL[:, :-1], attention_mask=mask_NT.long(), output_router_logits=True
    ).aux_loss
    return balance_NT.sum() / mask_NT.sum(), expected, policy.language_model, own


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES[1:])
def test_it_is_that_of_the_model(family, case):
    found, expected, *_ = both(family, case)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    assert found.item() > 1


@pytest.mark.parametrize("recomputes", [False, True, "selective"])
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "granitemoe"])
def test_its_gradient_is_that_of_the_model(family, recomputes):
    found, expected, model, own = both(family, CASES[3], recomputes=recomputes)
    found.backward()
    expected.backward()
    weights = dict(model.named_parameters())
    reached = {
        name: weight.grad for name, weight in own.named_parameters() if weight.grad is not None
    }
    routers = [name for name in reached if "router.weight" in name or "gate.weight" in name]
    assert len(routers) == model.config.num_hidden_layers
    for name, gradient in reached.items():
        largest = gradient.abs().max().item()
        assert name not in routers or largest > 1e-4
        torch.testing.assert_close(weights[name].grad, gradient, rtol=0, atol=1e-6 + 1e-5 * largest)


@pytest.fixture
def said(caplog):
    """What a run says of the routers of a family."""

    def of(family, coef, **settings):
        policy = Policy(tiny_model(family, **settings))
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="luffy_pl.training.policy_check"):
            say_routers(policy, coef)
        return [record.getMessage() for record in caplog.records]

    return of


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "granitemoe", "llama"])
def test_off_is_said(said, family):
    lines = said(family, 0.0, **{} if family == "llama" else {"router_aux_loss_coef": 0.25})
    if family == "llama":
        assert lines == []
    else:
        [line] = lines
        assert "is no part of the objective (router_aux_loss_coef 0.25)" in line
        assert "model.objective.router.coef puts it there" in line


def test_on_is_said(said):
    [line] = said("qwen3_moe", 0.02)
    assert "send a token to 2 experts, is part of the objective, times 0.02" in line


@pytest.mark.parametrize("family", ["llama", "deepseek_v3", "glm4_moe"])
def test_a_model_without_it_is_refused(family):
    """Dense, or with routers that are balanced in another way."""
    policy = Policy(tiny_model(family))
    assert about_routers(policy, 0.0) is None
    with pytest.raises(ConfigError, match=r"model\.objective\.router\.coef: has no effect"):
        about_routers(policy, 0.02)
