"""The load-balancing loss of a mixture of experts, in the part of each token.

Of n tokens, L layers with a router, and E experts of which a token is sent to k:

    loss = E sum_e f_e P_e

f_e is how often expert e is among the k of a token, over n L, and P_e the mean over tokens and
layers of the probability that a softmax of the router's logits gives it (Switch Transformers, arXiv
2101.03961, equations 4 to 6; with k experts, and one mean over all layers, as transformers computes
it for Mixtral). It is k where all experts are used alike, and at most E. f_e has no gradient, so
the loss is the mean over tokens of E / L sum over layers of sum_e f_e p_e.
Shapes: K places that the model reads, M of them asked for, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from luffy_pl.attention.own import attention
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.policy.self_check import explained, two_rows, undisturbed

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ROUTER_LOGITS = "output_router_logits"
"""Argument of a forward pass that gives them, and field of the configuration of such models."""
ROUTER_COEF = "model.objective.router.coef"


def token_balance(logits: Sequence[Tensor], top_k: int, place_M: Tensor) -> Tensor:
    """Each token's part of the loss, whose mean over the M tokens it is, [M].

    Args:
        logits: of each router, [K, E] or with K cut into rows.
        top_k: experts of a token.
        place_M: where each token lies among the K; one that is asked for twice counts twice.
    """
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    layers = [logits_KE.flatten(0, -2).to(dtype) for logits_KE in logits]
    num_places, num_experts = layers[0].shape
    with torch.autocast(place_M.device.type, enabled=False):  # bfloat16 would round the shares
        with torch.no_grad():
            count_K = layers[0].new_zeros(num_places)
            count_K.index_add_(0, place_M, torch.ones_like(place_M, dtype=dtype))
            count_Kk = count_K[:, None].expand(-1, top_k)
            share_E = layers[0].new_zeros(num_experts)
            for logits_KE in layers:
                chosen_Kk = logits_KE.topk(top_k, dim=-1).indices
                share_E.index_add_(0, chosen_Kk.flatten(), count_Kk.flatten())
            share_E /= len(place_M) * len(layers)
        parts = [logits_KE.softmax(-1) @ share_E for logits_KE in layers]
        return (torch.stack(parts).mean(0) * num_experts)[place_M]


def has_router(config: PretrainedConfig) -> bool:
    """Whether a configuration is one of models that can put out the logits of routers."""
    return hasattr(config.get_text_config(), ROUTER_LOGITS)


def read_top_k(model: PreTrainedModel, implementation: str) -> int | None:
    """Experts of a token, asked of the model: with which its own loss is that of `token_balance`.

    None: it computes none, or another.

    Args:
        implementation: of attention, for a row alone.
    """
    if not has_router(model.config):
        return None
    ids_2L, _, _ = two_rows(model, (), seed=0)
    try:
        with undisturbed(model), explained(model), attention(model, implementation):
            found = model.eval()(input_ids=ids_2L[:1], use_cache=False, **{ROUTER_LOGITS: True})
            logits, own = found.router_logits, found.aux_loss
            if not logits or not isinstance(own, Tensor):
                return None
            place_M = torch.arange(ids_2L.shape[1], device=ids_2L.device)
            # A model may round its probabilities to the type of its weights.
            tolerance = 1e-5 if logits[0].dtype.itemsize >= 4 else 1e-2
            for top_k in range(1, logits[0].shape[-1] + 1):
                loss = token_balance(logits, top_k, place_M).mean()
                if torch.isclose(loss, own.to(loss), rtol=tolerance, atol=0):
                    return top_k
    except ModelError:  # without this loss it can be trained all the same
        pass
    return None


def no_router(coef: float) -> ConfigError:
    """The coefficient is set, and the model has no such loss."""
    return ConfigError(
        ROUTER_COEF,
        "has no effect: it needs a mixture of experts whose forward pass gives the logits of its "
        "routers, and the load-balancing loss of a softmax of them",
        value=coef,
        fix="leave it out, or use such a model (Mixtral, Qwen3-MoE, Granite MoE, gpt-oss)",
    )
