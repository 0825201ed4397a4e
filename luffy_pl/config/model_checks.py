"""What the shape of a model rules out, found in its config.json before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch

from luffy_pl.errors import ConfigError
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.router import has_router, no_router
from luffy_pl.policy.tensor_parallel import layer_plan
from luffy_pl.process.ranks import SIZES, count_ranks


def check_model(config: Any) -> None:
    """Refuse what the model has no layers for: adapters, cuts, a loss of routers; and adapters cut.

    A model of code of its own is not looked at: nothing is known before that code runs.
    """
    policy, ranks = config.model.policy, count_ranks(config.trainer).tensor
    if ranks > 1:
        check_cuts(policy, ranks)
    router_coef = config.model.objective.router.coef
    is_asked = policy.lora is not None or ranks > 1 or router_coef
    if policy.remote_code is not None or not is_asked:
        return
    from luffy_pl.policy.architecture import read_architecture, weightless

    architecture = read_architecture(policy.path)
    if policy.lora is not None:
        lora = LoraConfig(**policy.lora)
        weightless(architecture, dtype=torch.float32, attention=None, lora=lora)
    if ranks > 1:
        layer_plan(architecture, ranks)
    if router_coef and not has_router(architecture):
        raise no_router(router_coef)


def check_cuts(policy: Any, ranks: int) -> None:
    """Refuse what does not know layers that are cut."""
    for name, without in (("lora", "null"), ("compile", "false")):
        if policy[name]:
            raise ConfigError(
                f"model.policy.{name}",
                f"does not go with layers that are cut ({SIZES}tensor_parallel_size={ranks})",
                fix=f"set {name}: {without}, or tensor_parallel_size: 1 and data_parallel_size to "
                "the number of ranks",
            )
