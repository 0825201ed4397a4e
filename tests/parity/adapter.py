"""Names and scales of released objectives, computed by luffy_pl.

LUFFY's (`run_reference_*`): a batch holds log_prob, old_log_prob, ref_log_prob, response_mask,
off_policy_mask and behaviour_prob [N, T], reward and group [N]; `advantage`, if present, is [N] or
[N, T].

Of methods that came later (`run_method_*`): golden_methods/README.md says what a batch holds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from luffy_pl.objective.advantage import group_advantage, row_advantage
from luffy_pl.objective.gate import Detached, Difference, Gate, PpoClip, Soft
from luffy_pl.objective.kl import kl_estimate
from luffy_pl.objective.loss import policy_loss, probability_ceiling_mask, sft_loss
from luffy_pl.objective.metrics import mean, policy_metrics
from luffy_pl.objective.normalize import NormalizeMode, count_terms, token_weight
from luffy_pl.objective.settings import (
    DistillationConfig,
    KlConfig,
    NormalizerConfig,
    ObjectiveConfig,
    OffPolicyConfig,
    OnPolicyConfig,
)
from luffy_pl.objective.shaping import Identity, PDivP, Shaping
from luffy_pl.objective.terms import OptimizerStep, active_terms, micro_batch_loss
from luffy_pl.objective.tokens import Tokens, Weighting
from luffy_pl.policy.divergence import Divergence, TeacherHead, token_divergence
from luffy_pl.registry import find

Batch = dict[str, Tensor]

KINDS = {
    "no_reshape": "identity",
    "logp": "log",
    "p_logp": "p_plus_log",
    "square_root": "power",
    "pow": "power",
}
KL_KINDS = {"kl": "k1", "abs": "abs", "mse": "k2", "low_var_kl": "k3"}
ON_POLICY_ONLY = {
    "cliprange": 0.2,
    "clip_upper_bound": 1.0,
    "off_max_clip": None,
    "off_min_clip": None,
    "all_max_clip": None,
    "off_policy_reshape": "no_reshape",
    "off_policy_reshape_weight": 1.0,
    "off_policy_reshape_pow_exp": 0.5,
    "on_policy_reshape": "no_reshape",
    "on_policy_reshape_weight": 1.0,
    "on_policy_reshape_pow_exp": 0.5,
    "use_behaviour_prob": False,
}
# Added to a recorded probability by the released code.
BEHAVIOUR_EPSILON = 1e-6


def run_reference_case(batch: Batch, options: dict[str, Any]) -> dict[str, Any]:
    """pg_loss, grad (of log_prob) and the released scalars of the mixed loss."""
    inputs, weighting = _inputs(batch, options), _weighting(options)
    logprob_NT = inputs["logprob_NT"].requires_grad_()
    is_row_N = torch.ones(len(logprob_NT), dtype=torch.bool)
    tokens = Tokens(
        **inputs,
        entropy_NT=torch.zeros_like(logprob_NT),
        in_policy_N=is_row_N,
        in_imitation_N=is_row_N,
    )
    loss_NT = policy_loss(tokens, weighting)
    loss = (loss_NT * _weight(inputs, batch, options)).sum()
    (gradient_NT,) = torch.autograd.grad(loss, logprob_NT)
    metrics = policy_metrics(tokens, weighting)
    return {
        "pg_loss": loss.item(),
        "grad": gradient_NT.reshape(batch["log_prob"].shape),
        "off_pg_clipfrac": 0.0,  # off-policy tokens are never PPO-clipped
        **{name: mean(pair).item() for name, pair in metrics.items()},
    }


def run_reference_policy_loss(
    batch: Batch, token_mean_removed: bool, clip_removed: bool
) -> dict[str, Any]:
    """The loss without off-policy tokens: every response token counts as sampled."""
    options = ON_POLICY_ONLY | {
        "loss_remove_token_mean": token_mean_removed,
        "loss_remove_clip": clip_removed,
    }
    # The advantage still compares with all rows, so it is taken before the mask is cleared.
    advantage = _advantage(batch)
    no_off_policy = torch.zeros_like(batch["off_policy_mask"])
    out = run_reference_case(
        batch | {"off_policy_mask": no_off_policy, "advantage": advantage}, options
    )
    return {
        "loss": out["pg_loss"],
        "clipfrac": out["on_pg_clipfrac"],
        "ppo_kl": out["ppo_kl"],
        "grad": out["grad"],
    }


def run_reference_advantage(batch: Batch, use_std: bool, split: bool) -> Tensor:
    """Advantage of every response token, [N, T]."""
    advantage_N = group_advantage(
        _reward(batch),
        group_N=torch.as_tensor(batch["group"]),
        is_off_policy_N=batch["off_policy_mask"].bool().any(dim=1),
        scale="group_std" if use_std else "none",
        baseline="on_policy" if split else "all",
    )
    return advantage_N[:, None] * batch["response_mask"].bool()


def run_reference_kl(batch: Batch, kind: str) -> Tensor:
    """Estimate of every token, [N, T]; kind is kl, abs, mse or low_var_kl."""
    return kl_estimate(batch["log_prob"], batch["ref_log_prob"], KL_KINDS[kind])


def run_reference_sft(batch: Batch) -> Tensor:
    """Mean over all response tokens of the rows that have an off-policy token."""
    mask_NT = batch["response_mask"].bool() & batch["off_policy_mask"].bool().any(1, keepdim=True)
    weight_NT = token_weight(
        mask_NT, mode="token", total_tokens=mask_NT.sum(), total_rows=len(mask_NT)
    )
    return (sft_loss(logprob_NT=batch["log_prob"], mask_NT=mask_NT) * weight_NT).sum()


def _inputs(batch: Batch, options: dict[str, Any]) -> dict[str, Tensor]:
    logprob_NT = batch["log_prob"].detach().clone()
    behaviour_logprob_NT = torch.zeros_like(logprob_NT)
    if options["use_behaviour_prob"]:
        behaviour_logprob_NT = (batch["behaviour_prob"] + BEHAVIOUR_EPSILON).log()
    inputs = {
        "logprob_NT": logprob_NT,
        "old_logprob_NT": batch["old_log_prob"],
        "behaviour_logprob_NT": behaviour_logprob_NT,
        "advantage_N": _advantage(batch),
        "response_mask_NT": batch["response_mask"],
        "off_policy_mask_NT": batch["off_policy_mask"],
    }
    if inputs["advantage_N"].dim() == 1:
        return inputs
    # An advantage per token: every token becomes a row of its own.
    inputs["advantage_N"] = inputs["advantage_N"].expand_as(logprob_NT)
    inputs = {name: value.reshape(-1, 1) for name, value in inputs.items()}
    return inputs | {"advantage_N": inputs["advantage_N"].squeeze(1)}


def _weighting(options: dict[str, Any]) -> Weighting:
    clip_is_off, clip_range = options["loss_remove_clip"], options["cliprange"]
    upper_bound = max(options["clip_upper_bound"], 1 + clip_range)
    off_policy_shaping = _shaping(options, "off_policy")
    return Weighting(
        on_policy_shaping=_shaping(options, "on_policy"),
        # A recorded probability switches the released shaping off.
        off_policy_shaping=Identity() if options["use_behaviour_prob"] else off_policy_shaping,
        ratio="token",
        gate=None if clip_is_off else PpoClip(low=clip_range, high=upper_bound - 1),
        behaviour="recorded",
        min_off_policy_weight=_number_or_none(options["off_min_clip"]),
        max_off_policy_weight=_number_or_none(options["off_max_clip"]),
        max_probability=_number_or_none(options["all_max_clip"]),
    )


def _shaping(options: dict[str, Any], side: str) -> Shaping:
    name = options[f"{side}_reshape"]
    if name.startswith("p_div_p_"):
        return PDivP(gamma=float(name.removeprefix("p_div_p_")))
    settings = {
        "exponent": 0.5 if name == "square_root" else options[f"{side}_reshape_pow_exp"],
        "weight": options[f"{side}_reshape_weight"],
    }
    kind = find("shaping", KINDS[name], where="kind")
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in settings.items() if name in names})


def _weight(inputs: dict[str, Tensor], batch: Batch, options: dict[str, Any]) -> Tensor:
    """One micro-batch on one rank: the token mean, or the sum over the padded length."""
    ceiling_NT = probability_ceiling_mask(
        inputs["logprob_NT"], _number_or_none(options["all_max_clip"])
    )
    kept_NT = inputs["response_mask_NT"].bool() & ceiling_NT
    return token_weight(
        kept_NT,
        mode="constant" if options["loss_remove_token_mean"] else "token",
        total_tokens=kept_NT.sum(),
        total_rows=1,
        constant_tokens=batch["response_mask"].shape[-1],
    )


def _advantage(batch: Batch) -> Tensor:
    """The given one, or std0.split0 per row."""
    if "advantage" in batch:
        return torch.as_tensor(batch["advantage"])
    return group_advantage(
        _reward(batch),
        group_N=torch.as_tensor(batch["group"]),
        is_off_policy_N=batch["off_policy_mask"].bool().any(dim=1),
        scale="none",
        baseline="all",
    )


def _reward(batch: Batch) -> Tensor:
    reward = torch.as_tensor(batch["reward"])
    reward = reward if reward.is_floating_point() else reward.float()
    return reward.sum(dim=1) if reward.dim() == 2 else reward


def _number_or_none(value: float | None) -> float | None:
    """The released code writes -1 for off."""
    return None if value is None or value == -1 else value


# -- methods that came later ---------------------------------------------------------------------


def run_method_case(batch: Batch, case: str) -> dict[str, Any]:
    """Loss and gradient of one case, the name of a method and its numbers.

    The gradient is by `log_prob`, that of gkd by `student_logits`.
    """
    name, *numbers = case.split("/")
    if name == "gkd":
        return _divergence_case(batch, float(numbers[0]))
    objective = METHODS[name](*(float(re.sub("[a-z_]", "", number)) for number in numbers))
    tokens = _method_tokens(batch, given=name == "rl_plus")
    counts = count_terms(tokens, list(range(len(tokens.advantage_N))), objective)
    step = OptimizerStep(
        objective,
        terms=active_terms(objective, 0, entropy_coef=0.0, kl_coef=objective.kl.coef, foreign={}),
        # As in a step of a run; the released RL-PLUS divides by no number of rows.
        totals={key: count.double() for key, count in counts.items()}
        | ({"policy_rows": torch.ones((), dtype=torch.double)} if name == "rl_plus" else {}),
        max_response_tokens=tokens.logprob_NT.shape[1],
    )
    loss, _ = micro_batch_loss(tokens, step)
    (gradient_NT,) = torch.autograd.grad(loss, tokens.logprob_NT)
    return {"loss": loss.item(), "grad": gradient_NT}


def _divergence_case(batch: Batch, beta: float) -> dict[str, Any]:
    """The token mean of the divergence; the logits stand for hidden states, with a head of ones."""
    logits_NTV = batch["student_logits"].detach().clone().requires_grad_()
    mask_NT, eye_VV = batch["response_mask"].bool(), torch.eye(logits_NTV.shape[-1]).double()
    found_M = token_divergence(
        logits_NTV[mask_NT],
        eye_VV,
        TeacherHead(batch["teacher_logits"][mask_NT], eye_VV),
        Divergence(beta),
    )
    loss = found_M.mean()
    (gradient_NTV,) = torch.autograd.grad(loss, logits_NTV)
    return {"loss": loss.item(), "grad": gradient_NTV}


def run_method_advantage(batch: Batch, name: str) -> Tensor:
    """The advantage of each row, [N]: rloo, max_rl or batch_std."""
    reward_N = batch["reward"]
    nothing_N = torch.zeros(len(reward_N), dtype=torch.bool)
    return row_advantage(
        reward_N,
        group_N=batch["group"],
        is_off_policy_N=nothing_N,
        is_truncated_N=nothing_N,
        config=find("advantage", name, where="kind")(),
    )


def _method_tokens(batch: Batch, *, given: bool) -> Tokens:
    """The batch as the loss takes it; only RL-PLUS has rows of an expert."""
    logprob_NT = batch["log_prob"].detach().clone().requires_grad_()
    mask_NT, is_row_N = batch["response_mask"].bool(), torch.ones(len(logprob_NT), dtype=torch.bool)
    return Tokens(
        logprob_NT=logprob_NT,
        old_logprob_NT=batch["old_log_prob"],
        entropy_NT=torch.zeros_like(logprob_NT),
        behaviour_logprob_NT=torch.zeros_like(logprob_NT),
        advantage_N=batch["advantage"],
        response_mask_NT=mask_NT,
        off_policy_mask_NT=mask_NT & batch["off_policy_mask"].bool() & given,
        in_policy_N=is_row_N,
        in_imitation_N=is_row_N,
        reference_logprob_NT=batch["teacher_log_prob"],
        teacher_logprob_NT=batch["teacher_log_prob"],
    )


def _gated(
    gate: Gate, mode: NormalizeMode = "token", ratio: Literal["token", "sequence"] = "token"
) -> ObjectiveConfig:
    return ObjectiveConfig(
        on_policy=OnPolicyConfig(ratio=ratio, gate=gate), normalizer=NormalizerConfig(mode=mode)
    )


def _rl_plus(token_mean_removed: float) -> ObjectiveConfig:
    return ObjectiveConfig(
        off_policy=OffPolicyConfig(behaviour="mixture", shaping=Identity(), rare_exponent=0.5),
        normalizer=NormalizerConfig(mode="constant" if token_mean_removed else "token"),
    )


def _by_token(**settings: Any) -> ObjectiveConfig:
    return ObjectiveConfig(normalizer=NormalizerConfig(mode="token"), **settings)


def _opd(coef: float, with_reward: float, clip: float) -> ObjectiveConfig:
    return _by_token(
        distillation=DistillationConfig("teacher", coef=coef, with_reward=bool(with_reward)),
        on_policy=OnPolicyConfig(gate=PpoClip(clip, clip) if clip else None),
    )


def _rlsd(coef: float, clip: float) -> ObjectiveConfig:
    return _by_token(
        distillation=DistillationConfig("teacher", mode="scale", coef=coef, clip=clip),
        on_policy=OnPolicyConfig(gate=PpoClip(0.2, 0.2)),
    )


METHODS: dict[str, Callable[..., ObjectiveConfig]] = {
    "gspo": lambda low, high: _gated(PpoClip(low, high), "sequence", "sequence"),
    "cispo": lambda low, high: _gated(Detached(low, high)),
    "sapo": lambda positive, negative: _gated(Soft(positive, negative), "sequence"),
    "dppo": lambda low, high, cap: _gated(Difference(low, high, cap)),
    "rl_plus": _rl_plus,
    "opd": _opd,
    "rlsd": _rlsd,
    "kdrl": lambda coef: _by_token(kl=KlConfig(coef=coef, estimator="k2", model="teacher")),
}
