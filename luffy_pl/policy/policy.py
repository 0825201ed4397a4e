"""The policy: a causal language model that returns log-probabilities, never logits.

Shapes: N rows, L tokens, T = L - 1 predictions, M predictions asked for, K packed tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from luffy_pl.attention.own import own_attention
from luffy_pl.attention.packed import PACKED_ATTENTION, pack_attention, packing
from luffy_pl.attention.packing import (
    Packed,
    Padded,
    Predictions,
    flash_boundaries,
    pack,
    read_mask,
    side_by_side,
    unpack,
)
from luffy_pl.errors import ModelError, first_line
from luffy_pl.policy.divergence import Against, TeacherHead, token_divergence
from luffy_pl.policy.dropout import stay_in_evaluation, turn_off_dropout
from luffy_pl.policy.head import token_logprob_and_entropy
from luffy_pl.policy.logits import PROBES, LogitTransform, head_input, read_transform
from luffy_pl.policy.lora import add_adapters
from luffy_pl.policy.model_files import read_model
from luffy_pl.policy.product import use_cpu_linear
from luffy_pl.policy.recompute import recompute_layers
from luffy_pl.policy.rotary import check_lengths, longest_row
from luffy_pl.policy.router import ROUTER_LOGITS, read_top_k, token_balance
from luffy_pl.policy.saved_names import saved_conversion
from luffy_pl.policy.self_check import SelfCheck, explained, undisturbed
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.policy.tensor_parallel import TensorGroup, decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


log = logging.getLogger(__name__)

FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Reading:
    """What a policy finds out by passes through its model; see `Policy` for the fields."""

    packs_rows: bool
    own_attention: str
    transform: LogitTransform
    windows: frozenset[int]
    gap_nats: float
    router_top_k: int | None


class Policy(nn.Module):
    """Wraps the model so that its head runs inside one forward, sharded or not.

    A policy that exists has the log-probabilities of its model: see `self_check`.

    Args:
        language_model: its attention becomes packed, unless it is flash_attention_2 or rows cannot
            be packed; it computes as in evaluation mode, without dropout, in either mode of the
            policy.
        head_in_float32: compute logits in float32 whatever the layers compute in.
        reading: of the same model, by a rank that has its weights; None: find it out.

    Attributes:
        packs_rows: whether rows go through the model in one sequence; if not, side by side.
        own_attention: the implementation of attention that computes what the model means.
        transform: what the model does to its logits.
        windows: tokens that windows and chunks of its attention hold.
        longest_row: tokens that a row may have; None: any number.
        gap_nats: largest difference of rows together from rows alone, when it was built.
        router_top_k: experts of a token, if its routers have a loss; see `read_top_k`.
        saved_conversion: of its weights to those of a checkpoint.

    Raises:
        ModelError: rows together are not what the model computes of each alone.
    """

    context: Callable[[], AbstractContextManager[None]] = nullcontext
    """The precision it computes in, whoever asks: a callback or data module is in no step of
    Lightning."""

    def __init__(
        self,
        language_model: PreTrainedModel,
        *,
        head_in_float32: bool = False,
        reading: Reading | None = None,
    ) -> None:
        super().__init__()
        self.head_in_float32 = head_in_float32
        use_cpu_linear(language_model)
        if dropout := turn_off_dropout(language_model):
            log.warning("model.policy: the model's dropout is off (%s)", ", ".join(dropout))
        check_head(language_model)
        self.language_model = language_model
        self.saved_conversion = saved_conversion(language_model)
        self.longest_row = longest_row(language_model)
        self.tensor_group: TensorGroup | None = None
        self.transform = LogitTransform()
        self.windows: Collection[int] = frozenset()
        if reading is None:
            self._read_model()
        else:
            self.packs_rows, self.own_attention = reading.packs_rows, reading.own_attention
            self.transform, self.windows = reading.transform, reading.windows
            self.gap_nats, self.router_top_k = reading.gap_nats, reading.router_top_k
            self._set_attention()
        if self.own_attention == FLASH:  # it needs a GPU, where no weights were yet
            language_model.set_attn_implementation(FLASH)

    def train(self, mode: bool = True) -> Policy:
        """Set the mode; the model inside goes on without dropout or other noise."""
        super().train(mode)
        stay_in_evaluation(self.language_model, trains=mode)
        return self

    def forward(
        self,
        token_ids_NL: Tensor,
        predicted_mask_NT: Tensor,
        *,
        num_tokens: Sequence[int],
        temperature: float,
        num_shared: Sequence[int] | None = None,
        against: Against | None = None,
        balances: bool = False,
    ) -> tuple[Tensor, ...]:
        """Log-probability and entropy of the masked predictions, in nats; 0 elsewhere, [N, T].

        With a teacher to compare with, the divergence of each prediction is a third. With
        `balances` the last is the part of each token that is read, masked or not, in the loss of
        the routers; a token that rows share stands in each of them.

        Rows are packed into one sequence, so padding is neither computed nor seen, or go side by
        side, where it is computed and not seen. Positions outside the mask never reach the head.

        Args:
            predicted_mask_NT: on the host, so that nobody waits for the device.
            num_tokens: length of each row, on the host.
            num_shared: tokens each row begins with as the last row that shares none, which are
                computed once if the policy `shares_prompts`.
            against: the `teacher_head` of the same predictions.
        """
        together = self._together(token_ids_NL, predicted_mask_NT, num_tokens, num_shared)
        hidden_MH, packed, output = self._read(together, asks_routers=balances)
        head = self.language_model.get_output_embeddings()
        settings: dict[str, Any] = {
            "bias_V": head.bias,
            "transform": self.transform,
            "temperature": temperature,
            "in_float32": self.head_in_float32,
        }
        found = [*token_logprob_and_entropy(hidden_MH, head.weight, packed.target_M, **settings)]
        if against is not None:
            divergence_M = token_divergence(
                hidden_MH, head.weight, against.teacher, against.divergence, **settings
            )
            found.append(divergence_M)
        values = [unpack(value_M, packed, predicted_mask_NT) for value_M in found]
        if balances:
            assert self.router_top_k is not None
            is_read_NT = read_mask(predicted_mask_NT.shape[1], num_tokens)
            read = self._together(token_ids_NL, is_read_NT, num_tokens, num_shared)
            part_M = token_balance(output.router_logits, self.router_top_k, read.place_M)
            values.append(unpack(part_M, read, is_read_NT))
        return tuple(values)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """`forward`, in its context."""
        with self.context():
            return super().__call__(*args, **kwargs)

    @torch.no_grad()
    def teacher_head(
        self,
        token_ids_NL: Tensor,
        predicted_mask_NT: Tensor,
        *,
        num_tokens: Sequence[int],
        num_shared: Sequence[int] | None = None,
    ) -> TeacherHead:
        """What its logits of the masked predictions are made of; the arguments are `forward`'s."""
        with self.context():
            rows = self._together(token_ids_NL, predicted_mask_NT, num_tokens, num_shared)
            hidden_MH, *_ = self._read(rows)
        head = self.language_model.get_output_embeddings()
        # Weights that were gathered for this pass are gone after it.
        is_sharded = isinstance(self, FSDPModule)
        weight_VH, bias_V = (
            one.detach().clone() if is_sharded and one is not None else one
            for one in (head.weight, head.bias)
        )
        return TeacherHead(hidden_MH, weight_VH.detach(), bias_V, self.transform)

    @property
    def reading(self) -> Reading:
        """What it has found out."""
        return Reading(
            self.packs_rows,
            self.own_attention,
            self.transform,
            frozenset(self.windows),
            self.gap_nats,
            self.router_top_k,
        )

    @property
    def shares_prompts(self) -> bool:
        """Whether its attention can read tokens of another row."""
        implementation = self.language_model.config._attn_implementation
        return self.packs_rows and implementation == PACKED_ATTENTION

    def trained_weights(self) -> list[nn.Parameter]:
        """The weights that a step changes: all, or those of adapters."""
        return [weight for weight in self.parameters() if weight.requires_grad]

    def check(self) -> float:
        """Largest difference in nats between rows together and alone; see `SelfCheck.run`."""
        with self.context():
            return SelfCheck(
                self,
                self.language_model,
                packs_rows=self.packs_rows,
                own_attention=self._row_attention,
                windows=self.windows,
            ).run()

    @property
    def _row_attention(self) -> str:
        """What the model computes rows alone with, on any device."""
        return "eager" if self.own_attention == "eager" else "sdpa"

    def _together(
        self,
        token_ids_NL: Tensor,
        predicted_mask_NT: Tensor,
        num_tokens: Sequence[int],
        num_shared: Sequence[int] | None,
    ) -> Packed | Padded:
        """The rows as a forward pass takes them, and where the masked predictions lie."""
        check_lengths(num_tokens, self.longest_row)
        if not self.packs_rows:
            return side_by_side(token_ids_NL, predicted_mask_NT, num_tokens)
        shared = num_shared if num_shared and self.shares_prompts else [0] * len(num_tokens)
        return pack(token_ids_NL, predicted_mask_NT, num_tokens, shared)

    def _read(
        self, rows: Packed | Padded, *, asks_routers: bool = False
    ) -> tuple[Tensor, Predictions, Any]:
        """What the head reads of the predictions, [M, H], where they lie, and the model's output.

        Args:
            asks_routers: let the logits of routers be part of the output.
        """
        more = {ROUTER_LOGITS: True} if asks_routers else {}
        if isinstance(rows, Padded):
            hidden_NKH, output = head_input(
                self.language_model, input_ids=rows.token_ids_nK, use_cache=False, **more
            )
            return hidden_NKH.flatten(0, 1)[rows.place_M], rows, output
        if self.tensor_group is not None:
            rows = self.tensor_group.join(rows)
        with packing(rows):
            hidden_1KH, output = head_input(self.language_model, **self._inputs(rows), **more)
        return hidden_1KH[0, rows.place_M], rows, output

    def _inputs(self, packed: Packed) -> dict[str, Any]:
        """Arguments of the model's forward pass of packed rows."""
        # A mask of ones says that there is no padding; without one transformers guesses rows.
        rows = (
            {"attention_mask": torch.ones_like(packed.token_ids_1K, dtype=torch.bool)}
            if self.shares_prompts
            else flash_boundaries(packed)
        )
        return {
            "input_ids": packed.token_ids_1K,
            "position_ids": packed.position_ids_1K,
            "use_cache": False,
            **rows,
        }

    def _read_model(self) -> None:
        """Find out how rows go through the model, and what it does to its logits.

        Raises:
            ModelError: rows are not what the model computes of each alone, packed or side by side.
        """
        model = self.language_model
        with undisturbed(model), explained(model):
            self.own_attention = own_attention(model.eval())
        self.packs_rows = True
        try:
            self.gap_nats = self._read_rows()
        except ModelError as error:
            self.packs_rows = False
            self.gap_nats = self._read_rows()
            log.warning(
                "model.policy: rows go through the model side by side with padding, which is "
                "slower, and share no prompt: %s",
                error.what if error.value is None else f"{error.what} ({error.value})",
            )
        self.router_top_k = read_top_k(model, self._row_attention)

    def _read_rows(self) -> float:
        """Find out the transform and the windows, with rows as `packs_rows` says; see `check`."""
        model = self.language_model
        self._set_attention()
        num_tokens = 1 + max(2, len(PROBES) // model.get_output_embeddings().weight.shape[0] + 1)
        ids_1L = torch.ones(1, num_tokens, dtype=torch.long, device=model.device)
        nothing_1T = torch.zeros(1, num_tokens - 1, dtype=torch.bool)
        packed = pack(ids_1L, nothing_1T, (num_tokens,), (0,))
        inputs = self._inputs(packed) if self.packs_rows else {"input_ids": packed.token_ids_1K}
        with undisturbed(model), packing(packed) as now, explained(model):
            self.transform = read_transform(model.eval(), **inputs)
        self.windows = now.windows
        return self.check()

    def _set_attention(self) -> None:
        """Give the model the attention that rows need."""
        with explained(self.language_model):
            if self.packs_rows:
                pack_attention(self.language_model)
            else:
                self.language_model.set_attn_implementation(self._row_attention)


def check_head(language_model: PreTrainedModel) -> None:
    """Refuse a model that is none of language, or whose head is not one matrix."""
    if not isinstance(language_model.get_output_embeddings(), nn.Linear):
        raise ModelError(
            "model.policy.path",
            "it has no head that is one matrix",
            value=type(language_model).__name__,
            fix="use a causal language model",
        )


def load_policy(
    config: PolicyConfig, path: str, *, seed: int = 0, is_mapped: bool = True
) -> Policy:
    """The policy with pretrained weights, on the CPU.

    Args:
        seed: of adapters.
        is_mapped: see `read_model`.
    """
    try:
        language_model = read_model(config, path, is_mapped=is_mapped)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            "model.policy.path",
            f"no model can be loaded ({first_line(error)})",
            value=config.path,
            fix="give a Hugging Face folder with config.json and weights, or a hub name",
        ) from error
    return finish_policy(language_model, config, seed=seed)


def finish_policy(
    language_model: PreTrainedModel,
    config: PolicyConfig,
    *,
    seed: int,
    reading: Reading | None = None,
) -> Policy:
    """A policy of a model that was just built, with what the settings add to it."""
    language_model.config.use_cache = False
    if config.lora is not None:
        add_adapters(language_model, config.lora, seed=seed)
    recompute_layers(language_model, config.activation_checkpointing)
    if config.compile:
        for layer in decoder_layers(language_model):
            layer.compile(dynamic=True)  # for any number of packed tokens
    in_float32 = config.head_dtype == "float32"
    return Policy(language_model, head_in_float32=in_float32, reading=reading)
