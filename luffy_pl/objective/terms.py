"""The loss of a micro-batch: a loop over terms, each a value per token times a weight.

The weights hold divisors counted over all micro-batches and ranks of the optimizer step, so the
terms of all micro-batches add up to the loss of the step.

Shapes: n rows of a micro-batch, T predictions. Log-probabilities are in nats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from luffy_pl.errors import ConfigError, first_line
from luffy_pl.objective.distillation import (
    added_coefficient,
    log_ratio,
    reward_part,
    with_teacher,
)
from luffy_pl.objective.kl import kl_estimate
from luffy_pl.objective.loss import policy_loss, sft_loss
from luffy_pl.objective.normalize import (
    DIVISORS,
    divisor_weight,
    imitation_mask,
    policy_term_weight,
)
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.objective.token_factors import (
    entropy_row_weight,
    mismatch_weight,
    rare_token_weight,
    sft_token_weight,
    top_entropy_mask,
)
from luffy_pl.objective.tokens import Tokens, Weighting
from luffy_pl.registry import find, nearest, register

WHERE = "model.objective.terms"


class LossTerm(Protocol):
    """One summand of the loss: a frozen dataclass, registered as a `loss_term`.

    Its fields are what a configuration can set, `coef` among them.
    """

    @property
    def coef(self) -> float:
        """Factor of the term; 0 leaves the term out."""

    @property
    def divisor(self) -> str | None:
        """One of `DIVISORS`: the term is a sum over the tokens of that count, divided by it.

        None: `token_loss` divides by itself, with the totals of the step.
        """

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Value of each token, [n, T], before coefficient and divisor; finite everywhere."""


@dataclass(frozen=True)
class OptimizerStep:
    """What all micro-batches of one optimizer step have in common.

    terms: by name, in the order in which they are added.
    totals: counts of `count_terms` and `count_read`, summed over ranks.
    max_response_tokens: divisor of mode constant where the objective gives none.
    phase: of the run, from 0.
    """

    objective: ObjectiveConfig
    terms: Mapping[str, LossTerm]
    totals: Mapping[str, Tensor]
    max_response_tokens: int
    phase: int = 0


def micro_batch_loss(tokens: Tokens, step: OptimizerStep) -> tuple[Tensor, dict[str, Tensor]]:
    """This micro-batch's share of the loss of its optimizer step, and of each term of it.

    The shares of terms come before their coefficients: summed over micro-batches and ranks they
    are the means that the loss is made of.
    """
    shares = {name: weighted(name, tokens, step).sum() for name in step.terms}
    return reduce(add, (step.terms[name].coef * share for name, share in shares.items())), shares


def weighted(name: str, tokens: Tokens, step: OptimizerStep) -> Tensor:
    """Each token's part of a term, divided but without coefficient, [n, T]."""
    term = step.terms[name]
    loss_nt = term.token_loss(tokens, step)
    if loss_nt.shape != tokens.logprob_NT.shape:  # it would be broadcast to a wrong sum
        raise ConfigError(
            f"{WHERE}.{name}",
            f"gives a loss of shape {list(loss_nt.shape)} for tokens of shape "
            f"{list(tokens.logprob_NT.shape)}",
            fix="let token_loss give one value per token",
        )
    if term.divisor is None:
        return loss_nt
    return loss_nt * divisor_weight(term.divisor, tokens, step.objective, step.totals)


# -- built-in terms ------------------------------------------------------------------------------


@register("loss_term", "policy")
@dataclass(frozen=True)
class PolicyTerm:
    """Advantage times weight, divided as `objective.normalizer` says."""

    coef: float
    divisor: ClassVar[None] = None

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Each token's part of the policy term, divisor included."""
        objective = step.objective
        tokens, paid_nt = with_teacher(tokens, objective, step.phase), None
        if objective.distillation is not None:
            paid_nt = reward_part(tokens, objective.distillation, step.phase)
        loss_nt = policy_loss(tokens, Weighting.of(objective), paid_nt)
        weight_nt = policy_term_weight(
            tokens, objective, totals=step.totals, max_response_tokens=step.max_response_tokens
        )
        return loss_nt * weight_nt * policy_factor(tokens, objective)


@register("loss_term", "entropy")
@dataclass(frozen=True)
class EntropyTerm:
    """Minus the mean entropy of all tokens that are learned from."""

    coef: float
    divisor: ClassVar[str] = "tokens"

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Minus the entropy."""
        return -tokens.entropy_NT


@register("loss_term", "imitation")
@dataclass(frozen=True)
class ImitationTerm:
    """Mean negative log-likelihood of given tokens, weighted as `objective.sft` says."""

    coef: float
    divisor: ClassVar[str] = "imitation_tokens"

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Negative log-likelihood times the factors of token and row."""
        sft, mask_nt = step.objective.sft, imitation_mask(tokens)
        row_n1 = entropy_row_weight(tokens.entropy_NT.detach(), mask_nt, sft.row_weight)
        token_nt = sft_token_weight(tokens.logprob_NT, sft.token_weight)
        return sft_loss(logprob_NT=tokens.logprob_NT, mask_NT=mask_nt) * token_nt * row_n1


@register("loss_term", "kl")
@dataclass(frozen=True)
class KlTerm:
    """Mean distance from the reference of all tokens that are learned from."""

    coef: float
    divisor: ClassVar[str] = "tokens"

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Estimate of the KL."""
        if tokens.reference_logprob_NT is None:
            raise ValueError("the KL term needs log-probabilities of the reference")
        return kl_estimate(
            tokens.logprob_NT, tokens.reference_logprob_NT, step.objective.kl.estimator
        )


@register("loss_term", "distillation")
@dataclass(frozen=True)
class DistillationTerm:
    """Mean over taught tokens of what the teacher adds to their advantage, times their weight."""

    coef: float
    divisor: ClassVar[str] = "taught_tokens"

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Minus the log-ratio of teacher and policy, times the weight of the policy term."""
        objective = step.objective
        if objective.distillation is None:
            raise ValueError("the distillation term needs model.objective.distillation")
        paid_nt = log_ratio(tokens, objective.distillation)
        whole = with_teacher(tokens, objective, step.phase)
        loss_nt = policy_loss(whole, Weighting.of(objective), paid_nt)
        return loss_nt * policy_factor(tokens, objective)


@register("loss_term", "divergence")
@dataclass(frozen=True)
class DivergenceTerm:
    """Mean divergence from a teacher's distributions, over all tokens that are learned from."""

    coef: float
    divisor: ClassVar[str] = "tokens"

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """The divergence."""
        if tokens.divergence_NT is None:
            raise ValueError("the divergence term needs the distributions of a teacher")
        return tokens.divergence_NT


@register("loss_term", "router")
@dataclass(frozen=True)
class RouterTerm:
    """Load-balancing loss of the routers of a mixture of experts (`policy/router.py`).

    How often an expert is used is counted in a micro-batch, over all tokens that it reads, and the
    loss is no sum over tokens of what each does alone. So this is the mean over micro-batches, each
    with as much weight as it reads tokens: it depends on which rows are in one micro-batch, as no
    other term does, and with small ones it asks for balance within a few rows.
    """

    coef: float
    divisor: ClassVar[None] = None

    def token_loss(self, tokens: Tokens, step: OptimizerStep) -> Tensor:
        """Each token's part of the loss of its micro-batch, over all tokens that are read."""
        if tokens.balance_NT is None:
            raise ValueError("the router term needs the logits of routers")
        is_learned_n1 = tokens.response_mask_NT.any(dim=1, keepdim=True)
        return tokens.balance_NT * is_learned_n1 / step.totals["read_tokens"].clamp(min=1)


def policy_factor(tokens: Tokens, objective: ObjectiveConfig) -> Tensor:
    """Further factors of a token's policy term, without gradient, [n, T]."""
    on_policy, given_nt = objective.on_policy, tokens.off_policy_mask_NT
    entropy_nt, sampled_nt = tokens.entropy_NT.detach(), tokens.response_mask_NT & ~given_nt
    factor_nt = torch.ones_like(entropy_nt)
    if on_policy.mismatch_cap is not None and tokens.sampler_logprob_NT is not None:
        factor_nt = factor_nt * mismatch_weight(
            tokens.old_logprob_NT,
            tokens.sampler_logprob_NT,
            mask_NT=sampled_nt,
            cap=on_policy.mismatch_cap,
        )
    if on_policy.positive_weight is not None:
        row_n1 = entropy_row_weight(entropy_nt, sampled_nt, on_policy.positive_weight)
        is_positive_nt = sampled_nt & (tokens.advantage_N > 0)[:, None]
        factor_nt = torch.where(is_positive_nt, factor_nt * row_n1, factor_nt)
    if objective.off_policy.rare_exponent is not None:
        factor_nt = factor_nt * rare_token_weight(
            tokens.logprob_NT, given_nt, exponent=objective.off_policy.rare_exponent
        )
    share = objective.off_policy.top_entropy_share
    if share is not None:
        unsure_nt = top_entropy_mask(entropy_nt, given_nt, share=share)
        factor_nt = factor_nt.masked_fill(given_nt & ~unsure_nt, 0.0)
    return factor_nt


# -- which terms there are -----------------------------------------------------------------------

BUILT_IN = ("policy", "entropy", "imitation", "kl", "distillation", "divergence", "router")
"""Terms that have settings of their own in `model.objective`, in the order of the loss."""


def active_terms(
    objective: ObjectiveConfig,
    phase: int,
    *,
    entropy_coef: float,
    kl_coef: float,
    foreign: Mapping[str, LossTerm],
) -> dict[str, LossTerm]:
    """The terms of an optimizer step, built-in ones first.

    A term with coefficient 0 is left out: its gradient of zeros would cost passes over all logits.
    The policy term always stays, so that there is something to differentiate.

    Args:
        entropy_coef, kl_coef: what the controllers have reached.
    """
    sft, divergence = objective.sft, objective.divergence
    imitation_coef = sft.coefficient(phase)
    policy_coef = 1.0 - imitation_coef if sft.complement else 1.0
    if divergence is not None and not divergence.with_reward:
        policy_coef = 0.0
    built_in: dict[str, LossTerm] = {
        "policy": PolicyTerm(policy_coef),
        "entropy": EntropyTerm(entropy_coef),
        "imitation": ImitationTerm(imitation_coef),
        "kl": KlTerm(kl_coef if objective.kl.place == "loss" else 0.0),
        "distillation": DistillationTerm(added_coefficient(objective.distillation, phase)),
        "divergence": DivergenceTerm(0.0 if divergence is None else divergence.coefficient(phase)),
        "router": RouterTerm(objective.router.coef),
    }
    terms = {**built_in, **foreign}
    return {name: term for name, term in terms.items() if term.coef or name == "policy"}


def logged_terms(objective: ObjectiveConfig, foreign: Iterable[str]) -> list[str]:
    """Terms whose mean is a metric of its own, beside those of the policy, where they act."""
    has_kl = objective.kl.coef > 0 and objective.kl.place == "loss"
    distils = objective.distillation is not None and objective.distillation.mode == "add"
    built_in = {
        "kl": has_kl,
        "distillation": distils,
        "divergence": objective.divergence is not None,
        "router": objective.router.coef > 0,
    }
    return [*foreign, *(name for name, is_on in built_in.items() if is_on)]


def foreign_terms(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, LossTerm]:
    """Build the terms that `model.objective.terms` switches on; a coefficient of 0 is off.

    Raises:
        ConfigError: nothing has that name, or the term refuses its settings.
    """
    terms = {name: foreign_term(name, fields) for name, fields in settings.items()}
    return {name: term for name, term in terms.items() if term.coef}


def foreign_term(name: str, fields: Mapping[str, Any]) -> LossTerm:
    """Build one term from the fields that a configuration gives it."""
    where = f"{WHERE}.{name}"
    if name in BUILT_IN:
        raise ConfigError(
            where, "is part of every loss", fix="use its own settings in model.objective"
        )
    kind = find("loss_term", name, where=WHERE)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ConfigError(where, "is no dataclass", value=kind, fix="correct its code")
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for field in fields:
        if field not in known:
            raise ConfigError(f"{where}.{field}", "is no such setting", fix=nearest(field, known))
    try:
        term: Any = kind(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(where, first_line(error), fix="correct its settings") from error
    missing = [part for part in ("coef", "divisor", "token_loss") if not hasattr(term, part)]
    if missing:
        raise ConfigError(where, f"has no {' nor '.join(missing)}", fix="correct its code")
    if not isinstance(term.coef, int | float) or not math.isfinite(term.coef):
        raise ConfigError(
            f"{where}.coef", "must be a finite number", value=term.coef, fix="use 0.01"
        )
    if term.divisor not in (*DIVISORS, None):
        raise ConfigError(
            f"{where}.divisor",
            "is nothing that tokens can be divided by",
            value=term.divisor,
            fix=nearest(str(term.divisor), DIVISORS),
        )
    return term
