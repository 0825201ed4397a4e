import math

import pytest
import torch
from torch import Tensor

from luffy_pl.objective.gate import PpoClip
from luffy_pl.objective.loss import policy_loss
from luffy_pl.objective.metrics import mean, policy_metrics
from luffy_pl.objective.shaping import Identity, PDivP
from luffy_pl.objective.tokens import Tokens, Weighting

NAN = math.nan
WEIGHTING = Weighting(
    on_policy_shaping=Identity(),
    off_policy_shaping=PDivP(gamma=0.1),
    ratio="token",
    gate=PpoClip(low=0.2, high=0.2),
    behaviour="recorded",
    min_off_policy_weight=0.55,
    max_off_policy_weight=0.7,
    max_probability=None,
)


def batch() -> dict[str, Tensor]:
    """Row 0: advantage 1, three rollout tokens. Row 1: advantage -1, an expert prefix of two.
    Row 2: no advantage. The last column is padding.
    """
    return {
        "logprob_NT": torch.tensor(
            [[0.6, 0.2, 0.4, NAN], [0.4, 0.1, 0.1, NAN], [0.9, 0.4, NAN, NAN]]
        ).log(),
        "old_logprob_NT": torch.tensor(
            [[0.4, 0.4, 0.4, NAN], [NAN, NAN, 0.4, NAN], [0.3, 0.4, NAN, NAN]]
        ).log(),
        "behaviour_logprob_NT": torch.tensor(
            [[NAN, NAN, NAN, NAN], [1.0, 1.0, NAN, NAN], [NAN, NAN, NAN, NAN]]
        ).log(),
        "advantage_N": torch.tensor([1.0, -1.0, 0.0]),
        "response_mask_NT": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0]]).bool(),
        "off_policy_mask_NT": torch.tensor([[0, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]]).bool(),
        "entropy_NT": torch.full((3, 4), NAN),
        "in_policy_N": torch.ones(3).bool(),
        "in_imitation_N": torch.ones(3).bool(),
    }


def test_by_hand():
    pairs = {
        name: (numerator.item(), denominator.item())
        for name, (numerator, denominator) in policy_metrics(Tokens(**batch()), WEIGHTING).items()
    }
    # six rollout tokens: ratios 1.5 -> 1.2, 0.5, 1 (A = 1); 0.25 -> 0.8 (A = -1); 3, 1 (A = 0)
    # two expert tokens:  f(0.4) = 0.8 -> 0.7, f(0.1) = 0.5 -> 0.55                (A = -1)
    expected = {
        "on_pg_loss": (-(1.2 + 0.5 + 1) + 0.8, 6),
        "off_pg_loss": (0.7 + 0.55, 2),
        # the clip acts on 1.5 and 0.25; on 3 it does not, for nothing is gained there
        "on_pg_clipfrac": (2, 6),
        "off_ratio_mean": (0.7 + 0.55, 2),
        "off_ratio_max_clip_frac": (1, 2),
        "off_ratio_min_clip_frac": (1, 2),
        "off_policy_prob": (0.4 + 0.1, 2),
        "on_policy_prob": (0.4 * 5 + 0.3, 6),
        # log(0.4 / 0.6) + log(0.4 / 0.2) + 0, log(0.4 / 0.1), log(0.3 / 0.9) + 0
        "ppo_kl": (math.log(2 / 3) + math.log(2) + math.log(4) + math.log(1 / 3), 6),
    }
    assert pairs.keys() == expected.keys()
    for name, pair in expected.items():
        assert pairs[name] == pytest.approx(pair, abs=1e-6), name


def test_the_two_losses_are_the_policy_loss():
    pairs = policy_metrics(Tokens(**batch()), WEIGHTING)
    loss_NT = policy_loss(Tokens(**batch()), WEIGHTING)
    total = pairs["on_pg_loss"][0] + pairs["off_pg_loss"][0]
    torch.testing.assert_close(total, loss_NT.sum())


def test_micro_batches_add_up():
    whole = policy_metrics(Tokens(**batch()), WEIGHTING)
    parts = [
        policy_metrics(
            Tokens(**{name: value[row : row + 1] for name, value in batch().items()}), WEIGHTING
        )
        for row in range(3)
    ]
    for name, pair in whole.items():
        added = tuple(sum(part[name][i] for part in parts) for i in range(2))
        torch.testing.assert_close(mean(added), mean(pair), msg=name)


@pytest.mark.parametrize("absent", ["off_policy", "on_policy", "all"])
def test_nothing_to_count_is_zero_and_never_nan(absent: str):
    tensors = batch()
    off_NT = tensors["off_policy_mask_NT"]
    keep_NT = {"off_policy": ~off_NT, "on_policy": off_NT, "all": torch.zeros_like(off_NT)}
    tensors["response_mask_NT"] &= keep_NT[absent]
    pairs = policy_metrics(Tokens(**tensors), WEIGHTING)
    assert all(math.isfinite(mean(pair).item()) for pair in pairs.values())
    empty = {
        "off_policy": {name for name in pairs if name.startswith("off_")},
        "on_policy": {name for name in pairs if name.startswith("on_")},
        "all": set(pairs),
    }[absent]
    assert all(mean(pairs[name]).item() == 0 for name in empty)


def test_metrics_carry_no_gradient():
    tensors = batch()
    tensors["logprob_NT"].requires_grad_()
    pairs = policy_metrics(Tokens(**tensors), WEIGHTING)
    assert not any(part.requires_grad for pair in pairs.values() for part in pair)
