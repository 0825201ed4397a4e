"""Terms of the loss from outside of the package: their values, and why some are refused."""

from dataclasses import dataclass
from typing import ClassVar

import lightning as L
import pytest
import torch
from training.test_gradient_invariance import random_experience, tiny_policy

from luffy_pl.callbacks.released_metrics import actor_pairs
from luffy_pl.errors import ConfigError
from luffy_pl.experience.stream import SizedStream
from luffy_pl.objective.normalize import DIVISORS
from luffy_pl.objective.settings import EntropyConfig, ObjectiveConfig
from luffy_pl.objective.terms import (
    OptimizerStep,
    active_terms,
    foreign_terms,
    micro_batch_loss,
)
from luffy_pl.objective.tokens import Tokens
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.registry import register
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig


@register("loss_term", "squared_logprob")
@dataclass(frozen=True)
class SquaredLogprob:
    """Draws every token towards certainty."""

    coef: float
    scale: float = 1.0
    divisor: str = "tokens"

    def __post_init__(self):
        if self.scale < 0:
            raise ValueError(f"scale must be at least 0, not {self.scale}")

    def token_loss(self, tokens, step):
        return self.scale * tokens.logprob_NT.square()


@register("loss_term", "one_number")
@dataclass(frozen=True)
class OneNumber:
    coef: float = 1.0
    divisor: ClassVar[str] = "tokens"

    def token_loss(self, tokens, step):
        return tokens.logprob_NT.mean()


@register("loss_term", "no_divisor")
@dataclass(frozen=True)
class NoDivisor:
    coef: float = 1.0


register("loss_term", "plain_function")(lambda tokens, step: tokens.logprob_NT)

TOTALS = {"tokens": 5, "imitation_tokens": 2, "policy_tokens": 4, "policy_rows": 2}
SCALED = {"squared_logprob": {"coef": 0.5, "scale": 3.0}}


def tokens(*rows):
    """Rows without advantage: a rollout of two tokens, and a trace of two that is a row of three.

    Padding holds a log-probability too. Only the trace's own tokens are given.
    """
    columns = {
        "logprob_NT": torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -1.0, -2.0]]),
        "response_mask_NT": torch.tensor([[1, 1, 0], [1, 1, 1]]).bool(),
        "off_policy_mask_NT": torch.tensor([[0, 0, 0], [1, 1, 0]]).bool(),
        "in_policy_N": torch.tensor([True, True]),
        "in_imitation_N": torch.tensor([True, True]),
    }
    zeros = dict.fromkeys(
        ("old_logprob_NT", "entropy_NT", "behaviour_logprob_NT"), torch.zeros(2, 3)
    )
    columns |= {**zeros, "advantage_N": torch.zeros(2)}
    taken = {name: value[list(rows)] for name, value in columns.items()}
    taken["logprob_NT"].requires_grad_()
    return Tokens(**taken)


def step(terms):
    objective = ObjectiveConfig(entropy=EntropyConfig(coef=0.0), terms=terms)
    return OptimizerStep(
        objective,
        terms=active_terms(
            objective, 0, entropy_coef=0.0, kl_coef=0.0, foreign=foreign_terms(terms)
        ),
        totals={name: torch.tensor(float(count)) for name, count in TOTALS.items()},
        max_response_tokens=8,
    )


def test_a_foreign_term_over_two_micro_batches_by_hand():
    # Squares times the scale: 3 * (1 + 4) and 3 * (9 + 1 + 4), over the five tokens of the step.
    first, second = tokens(0), tokens(1)
    loss, shares = micro_batch_loss(first, step(SCALED))
    assert shares["squared_logprob"].item() == pytest.approx(15 / 5)
    assert loss.item() == pytest.approx(0.5 * 15 / 5)
    other_loss, other_shares = micro_batch_loss(second, step(SCALED))
    assert other_shares["squared_logprob"].item() == pytest.approx(42 / 5)
    # The two add up to half of the mean over five tokens, 57 / 5.
    assert (loss + other_loss).item() == pytest.approx(0.5 * 57 / 5)
    loss.backward()
    other_loss.backward()
    # By the log-probability: coefficient * scale * 2 * logprob / 5, and nothing on padding.
    assert first.logprob_NT.grad.tolist() == [pytest.approx([-0.6, -1.2, 0.0])]
    assert second.logprob_NT.grad.tolist() == [pytest.approx([-1.8, -0.6, -1.2])]


@pytest.mark.parametrize(
    ("divisor", "expected"),
    [
        ("tokens", (1 + 4 + 9 + 1 + 4) / 5),
        ("imitation_tokens", (9 + 1) / 2),
        ("policy_tokens", (1 + 4 + 9 + 1 + 4) / 4),
        ("policy_rows", (1 + 4 + 9 + 1 + 4) / 2),
    ],
)
def test_the_divisor_chooses_tokens_and_count(divisor, expected):
    terms = {"squared_logprob": {"coef": 1.0, "divisor": divisor}}
    assert micro_batch_loss(tokens(0, 1), step(terms))[0].item() == pytest.approx(expected)
    assert divisor in DIVISORS


def test_a_coefficient_of_0_is_off():
    terms = {"squared_logprob": {"coef": 0.0}}
    assert list(step(terms).terms) == ["policy"]
    assert list(step(SCALED).terms) == ["policy", "squared_logprob"]


@pytest.mark.parametrize(
    ("terms", "line"),
    [
        (
            {"squared_logprop": {"coef": 1.0}},
            r"terms: is no loss_term.*did you mean squared_logprob",
        ),
        ({"squared_logprob": {"coef": 1.0, "scal": 2}}, r"logprob\.scal: .*did you mean scale"),
        ({"squared_logprob": {"scale": 2.0}}, r"squared_logprob: .*'coef'"),
        ({"squared_logprob": {"coef": "much"}}, r"squared_logprob\.coef: must be a finite number"),
        ({"squared_logprob": {"coef": float("inf")}}, r"\.coef: must be a finite number"),
        ({"squared_logprob": {"coef": 1.0, "scale": -1.0}}, r"scale must be at least 0, not -1\.0"),
        ({"squared_logprob": {"coef": 1.0, "divisor": "token"}}, r"divisor: .*did you mean tokens"),
        ({"kl": {"coef": 1.0}}, r"terms\.kl: is part of every loss"),
        ({"no_divisor": {}}, r"terms\.no_divisor: has no divisor nor token_loss"),
        ({"plain_function": {}}, r"terms\.plain_function: is no dataclass"),
    ],
)
def test_what_cannot_be_a_term_is_one_line(terms, line):
    with pytest.raises(ConfigError, match=line) as raised:
        LuffyModule(PolicyConfig(path="unused"), ObjectiveConfig(terms=terms))
    assert "\n" not in str(raised.value)


def test_a_value_that_is_not_of_each_token_is_refused():
    with pytest.raises(ConfigError, match=r"terms\.one_number: gives a loss of shape \[\]"):
        micro_batch_loss(tokens(0), step({"one_number": {}}))


class KeepMetrics(L.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.logprob_NT = outputs["logprob_NT"]
        self.pairs = actor_pairs(module, outputs, batch)


def test_the_mean_of_a_foreign_term_is_logged():
    """Over the optimizer steps of a phase, each a mean over its tokens in many micro-batches."""
    module = LuffyModule(
        PolicyConfig(path="unused"),
        ObjectiveConfig(terms=SCALED),
        OptimizerConfig(lr=1e-2, steps_per_phase=2, micro_batch_tokens=64),
        max_response_tokens=16,
    )
    module.policy, keep = tiny_policy(), KeepMetrics()
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[keep],
    )  # fmt: skip
    batch = random_experience(steps=2)
    trainer.fit(module, SizedStream(1, lambda _: batch))
    means = []
    for number in range(2):
        mask_NT = batch.response_mask_NT & (batch.step_N == number)[:, None]
        means.append(3.0 * keep.logprob_NT[mask_NT].square().mean())
    numerator, count = keep.pairs["actor/squared_logprob_loss"]
    assert (numerator / count).item() == pytest.approx(sum(means).item() / 2)
    assert "actor/policy_loss" not in keep.pairs
