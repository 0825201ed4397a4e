"""The two records that the loss is a function of: what is known of each token, and how it weighs.

Shapes in this file: N rows, T predictions. Log-probabilities are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from luffy_pl.objective.gate import Gate
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.objective.shaping import Shaping
from luffy_pl.records import Experience


@dataclass(frozen=True)
class Tokens:
    """What the loss knows of each token of some rows.

    Only `logprob_NT`, `entropy_NT`, `divergence_NT` and `balance_NT` carry a gradient.

    logprob_NT: current policy.
    old_logprob_NT: the policy before the phase; read on rollout tokens, and on given ones where
        `behaviour` is policy or mixture.
    entropy_NT: entropy of the current policy's distribution that the token was drawn from.
    behaviour_logprob_NT: whoever wrote the token; read on given tokens only.
    advantage_N: one number for all tokens of a row, by its reward.
    response_mask_NT: True on tokens to learn from, False on prompt and padding.
    off_policy_mask_NT: True on tokens that were given, not sampled in this phase.
    in_policy_N, in_imitation_N: whether the row takes part in the policy term, and its given
        tokens in the imitation term.
    sampler_logprob_NT: the engine's, of rollout tokens; None unless a setting reads it.
    reference_logprob_NT: the reference policy; None unless the loss has a KL term.
    teacher_logprob_NT: a teacher, perhaps under another prompt; read on taught tokens only; None
        unless the loss distils.
    is_taught_N: whether the teacher scores the row; None: every row.
    token_advantage_NT: advantage of each token where a teacher has a part in it; None: that of its
        row.
    divergence_NT: of the whole distribution from a teacher's, in nats; None unless it is a term.
    balance_NT: part in the loss of the routers of the token that is read to predict this one, also
        of prompts; 0 in padding; None unless it is a term.
    """

    logprob_NT: Tensor
    old_logprob_NT: Tensor
    entropy_NT: Tensor
    behaviour_logprob_NT: Tensor
    advantage_N: Tensor
    response_mask_NT: Tensor
    off_policy_mask_NT: Tensor
    in_policy_N: Tensor
    in_imitation_N: Tensor
    sampler_logprob_NT: Tensor | None = None
    reference_logprob_NT: Tensor | None = None
    teacher_logprob_NT: Tensor | None = None
    is_taught_N: Tensor | None = None
    token_advantage_NT: Tensor | None = None
    divergence_NT: Tensor | None = None
    balance_NT: Tensor | None = None

    @property
    def advantage_NT(self) -> Tensor:
        """The whole advantage of each token, [N, T] or [N, 1]."""
        whole_NT = self.token_advantage_NT
        return self.advantage_N[:, None] if whole_NT is None else whole_NT

    @classmethod
    def of(
        cls,
        rows: Experience,
        *,
        logprob_NT: Tensor,
        old_logprob_NT: Tensor,
        entropy_NT: Tensor,
        reference_logprob_NT: Tensor | None = None,
        teacher_logprob_NT: Tensor | None = None,
        divergence_NT: Tensor | None = None,
        balance_NT: Tensor | None = None,
    ) -> Tokens:
        """Join collected rows with what forward passes computed for them."""
        return cls(
            logprob_NT=logprob_NT,
            old_logprob_NT=old_logprob_NT,
            entropy_NT=entropy_NT,
            behaviour_logprob_NT=rows.behaviour_logprob_NT,
            advantage_N=rows.advantage_N,
            response_mask_NT=rows.response_mask_NT,
            off_policy_mask_NT=rows.off_policy_mask_NT,
            in_policy_N=rows.in_policy_N,
            in_imitation_N=rows.in_imitation_N,
            sampler_logprob_NT=rows.sampler_logprob_NT,
            reference_logprob_NT=reference_logprob_NT,
            teacher_logprob_NT=teacher_logprob_NT,
            is_taught_N=rows.is_taught_N,
            divergence_NT=divergence_NT,
            balance_NT=balance_NT,
        )


@dataclass(frozen=True)
class Weighting:
    """The settings that weigh a token in the policy term; None switches a bound off.

    on_policy_shaping, off_policy_shaping: functions of the probability ratio.
    ratio: whose ratio a rollout token has: its own, or that of its row, which is not shaped.
    gate: what becomes of that ratio.
    behaviour: what the probability of a given token is divided by, as in `OffPolicyConfig`.
    min_off_policy_weight, max_off_policy_weight: clamp of given tokens, after shaping.
    max_probability: tokens more likely than this are left out.
    """

    on_policy_shaping: Shaping
    off_policy_shaping: Shaping
    ratio: Literal["token", "sequence"]
    gate: Gate | None
    behaviour: Literal["certain", "recorded", "policy", "mixture"]
    min_off_policy_weight: float | None
    max_off_policy_weight: float | None
    max_probability: float | None

    @classmethod
    def of(cls, objective: ObjectiveConfig) -> Weighting:
        """Pick these settings out of a configuration."""
        return cls(
            on_policy_shaping=objective.on_policy.shaping,
            off_policy_shaping=objective.off_policy.shaping,
            ratio=objective.on_policy.ratio,
            gate=objective.on_policy.gate,
            behaviour=objective.off_policy.behaviour,
            min_off_policy_weight=objective.off_policy.min_weight,
            max_off_policy_weight=objective.off_policy.max_weight,
            max_probability=objective.max_probability,
        )
