"""The comparison of a policy with its model (`policy/self_check.py`) where a run makes it.

Every policy is compared when it is built, on the CPU and before it is sharded.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from luffy_pl.bundled import resolve
from luffy_pl.policy.policy import Policy, load_policy
from luffy_pl.policy.rotary import check_lengths
from luffy_pl.policy.router import ROUTER_COEF, no_router
from luffy_pl.policy.settings import PolicyConfig

if TYPE_CHECKING:
    from luffy_pl.experience.datamodule import LuffyDataModule

log = logging.getLogger(__name__)


def check_here(policy: Policy, *, device: torch.device, precision: str) -> None:
    """Compare again where the run computes in another way than when the policy was built.

    Args:
        precision: Lightning's name for it.
    """
    if device.type != "cpu" or precision != "32-true":
        policy.check()


def check_rows(policy: Policy, data: LuffyDataModule) -> None:
    """Refuse a run whose rows may become longer than the model takes."""
    if data.prompts is not None:
        longest = max(len(prompt.token_ids) for prompt in data.prompts.prompts)
        check_lengths([longest + data.rollout.max_response_tokens], policy.longest_row)


def say_routers(policy: Policy, coef: float) -> None:
    """Say whether the loss of the model's routers is part of the objective."""
    if line := about_routers(policy, coef):
        log.log(logging.INFO if coef else logging.WARNING, "%s", line)


def about_routers(policy: Policy, coef: float) -> str | None:
    """One line, if there is anything to say.

    Args:
        coef: `model.objective.router.coef`.

    Raises:
        ConfigError: it is set, and the model has no such loss.
    """
    top_k = policy.router_top_k
    config = policy.language_model.config.get_text_config()
    own = getattr(config, "router_aux_loss_coef", None)
    if coef:
        if top_k is None:
            raise no_router(coef)
        return (
            f"{ROUTER_COEF}: the load-balancing loss of the model's routers, which send a token to "
            f"{top_k} experts, is part of the objective, times {coef:g}"
        )
    if not own:
        return None
    fix = "" if top_k is None else f"; {ROUTER_COEF} puts it there"
    return (
        "model.policy: the auxiliary loss of the model's router is no part of the objective "
        f"(router_aux_loss_coef {own:g}){fix}"
    )


def build_here(config: PolicyConfig) -> Policy:
    """The policy of a run on this machine's CPU, compared with its model."""
    # Flash attention would need the run's GPU.
    return load_policy(replace(config, attention="sdpa"), resolve(config.path))
