"""The policy: a causal language model that returns log-probabilities, never logits.

Shapes: N rows, L tokens, T = L - 1 predictions, M predictions asked for, K packed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from luffy_pl.errors import ModelError, first_line
from luffy_pl.policy.attention import PACKED_SDPA, register_attention
from luffy_pl.policy.head import token_logprob_and_entropy
from luffy_pl.policy.lora import add_adapters
from luffy_pl.policy.packing import Packed, flash_boundaries, pack, unpack
from luffy_pl.policy.product import use_cpu_linear
from luffy_pl.policy.recompute import recompute_layers
from luffy_pl.policy.remote_code import code_arguments
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.policy.tensor_parallel import TensorGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Policy(nn.Module):
    """Wraps the model so that its head runs inside one forward, sharded or not.

    Args:
        language_model: its attention becomes packed, unless it is flash_attention_2.
        head_in_float32: compute logits in float32 whatever the layers compute in.
    """

    context: Callable[[], AbstractContextManager[None]] = nullcontext
    """The precision it computes in, whoever asks: a callback or data module is in no step of
    Lightning."""

    def __init__(self, language_model: PreTrainedModel, *, head_in_float32: bool = False) -> None:
        super().__init__()
        self.head_in_float32 = head_in_float32
        use_cpu_linear(language_model)
        self.language_model = packs_rows(language_model)
        self.tensor_group: TensorGroup | None = None

    def forward(
        self,
        token_ids_NL: Tensor,
        predicted_mask_NT: Tensor,
        *,
        num_tokens: Sequence[int],
        temperature: float,
        num_shared: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of the masked predictions, in nats; 0 elsewhere, [N, T].

        Rows are packed into one sequence, so padding is neither computed nor seen. Positions
        outside the mask never reach the head.

        Args:
            predicted_mask_NT: on the host, so that nobody waits for the device.
            num_tokens: length of each row, on the host.
            num_shared: tokens each row begins with as the last row that shares none, which are
                computed once if the policy `shares_prompts`.
        """
        shared = num_shared if num_shared and self.shares_prompts else [0] * len(num_tokens)
        packed = pack(token_ids_NL, predicted_mask_NT, num_tokens, shared)
        if self.tensor_group is not None:
            packed = self.tensor_group.join(packed)
        hidden_1KH = self.language_model.base_model(
            input_ids=packed.token_ids_1K,
            position_ids=packed.position_ids_1K,
            use_cache=False,
            **self._boundaries(packed),
        ).last_hidden_state
        head = self.language_model.get_output_embeddings()
        found = token_logprob_and_entropy(
            hidden_1KH[0, packed.place_M],
            head.weight,
            packed.target_M,
            bias_V=head.bias,
            temperature=temperature,
            in_float32=self.head_in_float32,
        )
        logprob_NT, entropy_NT = (unpack(value_M, packed, predicted_mask_NT) for value_M in found)
        return logprob_NT, entropy_NT

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """`forward`, in its context."""
        with self.context():
            return super().__call__(*args, **kwargs)

    @property
    def shares_prompts(self) -> bool:
        """Whether its attention can read tokens of another row."""
        return self.language_model.config._attn_implementation == PACKED_SDPA

    def trained_weights(self) -> list[nn.Parameter]:
        """The weights that a step changes: all, or those of adapters."""
        return [weight for weight in self.parameters() if weight.requires_grad]

    def _boundaries(self, packed: Packed) -> dict[str, Any]:
        if not self.shares_prompts:
            return flash_boundaries(packed)
        return {"packed": packed}


def packs_rows(language_model: PreTrainedModel) -> PreTrainedModel:
    """The same model, its attention told where rows begin; a ModelError where that cannot be."""
    config = language_model.config
    if config._attn_implementation != "flash_attention_2":
        register_attention()
        language_model.set_attn_implementation(PACKED_SDPA)
    # Recurrent and convolutional layers would carry one row's state into the next.
    kinds = set(getattr(config, "layer_types", None) or ())
    others = kinds - {"full_attention", "sliding_attention"}
    if others or config._attn_implementation not in (PACKED_SDPA, "flash_attention_2"):
        raise ModelError(
            "model.policy.path",
            "its layers cannot be kept from mixing packed rows",
            value=", ".join(sorted(others)) or type(language_model).__name__,
            fix="use a model of attention layers that follows transformers' AttentionInterface",
        )
    return language_model


def load_policy(config: PolicyConfig, path: str, *, seed: int = 0) -> Policy:
    """The policy with pretrained weights, on the CPU; `seed` is that of adapters."""
    from transformers import AutoModelForCausalLM

    try:
        language_model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
            use_safetensors=True,
            **code_arguments(config.remote_code),
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            "model.policy.path",
            f"no model can be loaded ({first_line(error)})",
            value=config.path,
            fix="give a Hugging Face folder with config.json and weights, or a hub name",
        ) from error
    language_model.config.use_cache = False
    if config.lora is not None:
        add_adapters(language_model, config.lora, seed=seed)
    recompute_layers(language_model, config.activation_checkpointing)
    if config.compile:
        for layer in language_model.base_model.layers:
            layer.compile(dynamic=True)  # for any number of packed tokens
    return Policy(language_model, head_in_float32=config.head_dtype == "float32")
