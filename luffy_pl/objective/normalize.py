"""What a token's term is divided by.

Shapes in this file: N rows, T predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor

from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.records import Experience

NormalizeMode = Literal["token", "sequence", "constant"]
DIVISORS = ("tokens", "imitation_tokens", "policy_tokens", "policy_rows", "taught_tokens")
"""Counts of `count_terms` that a term can be divided by."""


class Masks(Protocol):
    """Rows that say which of their tokens each term takes: an `Experience`, or `Tokens`."""

    @property
    def response_mask_NT(self) -> Tensor:
        """Tokens to learn from."""

    @property
    def off_policy_mask_NT(self) -> Tensor:
        """Tokens that were given."""

    @property
    def in_policy_N(self) -> Tensor:
        """Rows in the policy term."""

    @property
    def in_imitation_N(self) -> Tensor:
        """Rows in the imitation term."""

    @property
    def is_taught_N(self) -> Tensor | None:
        """Rows that a teacher scores; None: every row."""


def token_weight(
    mask_NT: Tensor,
    *,
    mode: NormalizeMode,
    total_tokens: float | Tensor,
    total_rows: float | Tensor,
    constant_tokens: int | None = None,
) -> Tensor:
    """Weights with which a plain sum over all micro-batches and ranks is the normalised term.

    token     mask / total_tokens: every token counts the same (DAPO).
    sequence  mask / (tokens of the row * total_rows): every row counts the same (GRPO).
    constant  mask / (constant_tokens * total_rows): no length enters (Dr. GRPO).

    Both totals are the caller's counts over all micro-batches and ranks of one optimizer step,
    so that no split, packing, order or sharding of the rows changes the gradient.

    The released LUFFY sums a rank's tokens, divides by the padded response length and averages
    over ranks: that is constant with total_rows = number of ranks, not rows. At its 64 rows per
    rank the term is 64 times a mean over rows, which matters beside an entropy or KL term.

    Args:
        mask_NT: bool or 0/1; a mask without tokens gives weights of 0.
        constant_tokens: in tokens, of mode constant: the longest response of the run.
    """
    divisor: float | Tensor
    match mode:
        case "token":
            divisor = total_tokens
        case "sequence":
            divisor = mask_NT.sum(dim=1, keepdim=True) * total_rows
        case "constant":
            if constant_tokens is None:
                raise ValueError("mode constant needs constant_tokens, the tokens to divide by")
            divisor = constant_tokens * total_rows
    # Where nothing is counted the divisor is 0 and so is the mask: the weight is 0, not NaN.
    return (mask_NT / divisor).masked_fill(mask_NT == 0, 0.0)


def count_terms(
    experience: Experience, rows: list[int], objective: ObjectiveConfig
) -> dict[str, Tensor]:
    """Count the tokens and rows of a minibatch that terms are divided by, on this rank."""
    policy_nt = policy_mask(experience, objective.off_policy.policy_coef)[rows]
    return {
        "tokens": experience.response_mask_NT[rows].sum(),
        "imitation_tokens": imitation_mask(experience)[rows].sum(),
        "policy_tokens": policy_nt.sum(),
        "policy_rows": policy_nt.any(dim=1).sum(),
        "taught_tokens": taught_mask(experience)[rows].sum(),
    }


def count_read(experience: Experience, rows: list[int]) -> dict[str, Tensor]:
    """Count the tokens of a minibatch that forward passes read to learn, on this rank.

    They are those of prompts and responses, without the last of each row.
    """
    is_learned_n = experience.response_mask_NT[rows].any(dim=1)
    return {"read_tokens": ((experience.num_tokens_N[rows] - 1) * is_learned_n).sum()}


def divisor_weight(
    divisor: str, rows: Masks, objective: ObjectiveConfig, totals: Mapping[str, Tensor]
) -> Tensor:
    """Weights [N, T] with which a plain sum over the step is divided by one of `DIVISORS`.

    They are 0 on tokens that the count leaves out.
    """
    match divisor:
        case "tokens":
            mask_NT = rows.response_mask_NT
        case "imitation_tokens":
            mask_NT = imitation_mask(rows)
        case "taught_tokens":
            mask_NT = taught_mask(rows)
        case _:
            mask_NT = policy_mask(rows, objective.off_policy.policy_coef)
    return token_weight(mask_NT, mode="token", total_tokens=totals[divisor], total_rows=1)


def policy_term_weight(
    rows: Masks,
    objective: ObjectiveConfig,
    *,
    totals: Mapping[str, Tensor],
    max_response_tokens: int,
) -> Tensor:
    """Divisor of the policy term as weights [N, T], with the off-policy coefficient.

    Args:
        max_response_tokens: divisor of mode constant where the objective gives none.
    """
    normalizer, coef = objective.normalizer, objective.off_policy.policy_coef
    weight_NT = token_weight(
        policy_mask(rows, coef),
        mode=normalizer.mode,
        total_tokens=totals["policy_tokens"],
        total_rows=normalizer.rows or totals["policy_rows"],
        constant_tokens=normalizer.constant_tokens or max_response_tokens,
    )
    return torch.where(rows.off_policy_mask_NT, coef * weight_NT, weight_NT)


def policy_mask(rows: Masks, policy_coef: float) -> Tensor:
    """Tokens in the policy term, [N, T]: of rows that are in it, with or without the given ones."""
    mask_NT = rows.response_mask_NT & rows.in_policy_N[:, None]
    return mask_NT & ~rows.off_policy_mask_NT if policy_coef == 0 else mask_NT


def imitation_mask(rows: Masks) -> Tensor:
    """Tokens to imitate, [N, T]: the given ones of rows that are in that term."""
    return rows.off_policy_mask_NT & rows.in_imitation_N[:, None]


def taught_mask(rows: Masks) -> Tensor:
    """Tokens that a teacher has a part in, [N, T]: sampled ones, of rows that it scores."""
    mask_NT = rows.response_mask_NT & ~rows.off_policy_mask_NT & rows.in_policy_N[:, None]
    return mask_NT if rows.is_taught_N is None else mask_NT & rows.is_taught_N[:, None]
