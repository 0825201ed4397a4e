"""Causal attention within each row of a packed sequence, told where rows begin, never guessing.

Registered with transformers as PACKED_ATTENTION, together with a mask function of that name. So a
model builds its masks as ever and hands them to its layers, but a mask is a `RowMask`: the rows of
the packed sequence, and the rule by which the model lets a row see itself. Windows and chunks are
therefore the model's own, whether its layers know of them or its masks alone; and a layer that is
computed again in the backward pass has its rows with it.
The cost is the sum of squared row lengths. Shapes: L packed tokens, D of a head; S of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from luffy_pl.attention.blocks import RowBlocks, blocks_of
from luffy_pl.attention.capped import capped_attention
from luffy_pl.attention.layer_kinds import other_kinds
from luffy_pl.attention.packing import Packed
from luffy_pl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKED_ATTENTION = "luffy_pl_packed"
"""Without the letters sdpa: transformers would refuse models that are not built for that."""
# What models pass beside a mask and a factor, and none of which changes the formula: windows are in
# the mask, dropout is off, rows are told otherwise.
WITHOUT_EFFECT = {
    "cu_seq_lens_k", "cu_seq_lens_q", "deterministic", "dropout", "max_length_k", "max_length_q",
    "output_attentions", "output_hidden_states", "output_router_logits", "position_embeddings",
    "position_ids", "sliding_window", "use_cache",
}  # fmt: skip
# Of (batch, head, query, key), places in a row: whether the query sees the key.
MaskRule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class RowMask:
    """What the layers of a model get as attention mask.

    Args:
        packed: where rows begin, and what they share.
        rule: who sees whom in a row; None: plainly causal.
        window: a row of so many tokens or fewer is plainly causal even so; None: no row is.
    """

    def __init__(self, packed: Packed, rule: MaskRule | None, window: int | None) -> None:
        self.packed, self.rule, self.window = packed, rule, window
        self._bands: dict[tuple[int, torch.device], Tensor] = {}
        self._blocks: RowBlocks | None = None

    def blocks(self) -> RowBlocks:
        """The calls of a layer, the same in all layers."""
        if self._blocks is None:
            self._blocks = blocks_of(self.packed)
        return self._blocks

    def band(self, length: int, device: torch.device) -> Tensor | None:
        """Who sees whom in a row, [S, S]; None: plainly causal."""
        if self.rule is None or (self.window is not None and length <= self.window):
            return None
        if (length, device) not in self._bands:
            place_S = torch.arange(length, device=device)
            zero = place_S.new_zeros(())
            self._bands[length, device] = self.rule(zero, zero, place_S[:, None], place_S)
        return self._bands[length, device]


class Packing:
    """The forward pass of a packed sequence, as the masks of the model are told of it.

    windows: of the masks that were asked for, in tokens.
    """

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.windows: set[int] = set()


_current: ContextVar[Packing] = ContextVar("packing")


@contextmanager
def packing(packed: Packed) -> Iterator[Packing]:
    """Within, masks that a model builds are those of the rows."""
    token = _current.set(Packing(packed))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def row_mask(
    *,
    q_length: int,
    kv_length: int,
    mask_function: MaskRule,
    local_size: int | None = None,
    **others: Any,
) -> RowMask:
    """A mask of transformers' `AttentionMaskInterface`, for the sequence of `packing`.

    Args:
        mask_function: of a row alone, since no padding and no guessed rows come with it.
        local_size: tokens that a window or chunk holds.
    """
    from transformers.masking_utils import causal_mask_function

    now = _current.get(None)
    if now is None or q_length != kv_length:
        raise ModelError(
            "model.policy.path",
            "attention over rows that nobody packed"
            if now is None
            else "its attention reads another sequence than its own",
            fix="use a decoder whose layers attend to the tokens before them",
        )
    if mask_function is causal_mask_function:
        return RowMask(now.packed, None, None)
    if local_size is not None:
        now.windows.add(local_size)
    return RowMask(now.packed, mask_function, local_size)


def packed_attention(
    module: nn.Module,
    query_1hLD: Tensor,
    key_1kLD: Tensor,
    value_1kLD: Tensor,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention within every row; returns [1, L, heads, D].

    What rows share is computed again for each, which costs less than a mask for the others alone.

    Args:
        attention_mask: a RowMask.
        softcap: of the scores.
        s_aux: the sink of each head.
        others: what transformers passes to every implementation.

    Raises:
        ModelError: there is no such mask, or something that may change the attention's formula.
    """
    unknown = [
        name
        for name, value in others.items()
        if name not in WITHOUT_EFFECT and value is not None and (name, value) != ("is_causal", True)
    ]
    if unknown:
        raise ModelError(
            "model.policy.attention",
            "attention over packed rows does not know what this model's needs",
            value=", ".join(unknown),
            fix="use another model",
        )
    if not isinstance(attention_mask, RowMask):
        raise ModelError(
            "model.policy.path",
            "its attention is not given the mask that transformers makes, and cannot be told "
            "where packed rows begin",
            value=type(module).__name__,
            fix="use a model whose masks follow transformers' AttentionMaskInterface",
        )
    blocks = attention_mask.blocks()
    # [K, heads, D], as the projections made them.
    tokens = [x.transpose(1, 2)[0] for x in (query_1hLD, key_1kLD, value_1kLD)]
    outputs = []
    for place in blocks.places:
        query, key, value = (taken(x, place).transpose(1, 2) for x in tokens)
        band = attention_mask.band(query.shape[2], query.device)
        output = attend(query, key, value, band, scaling=scaling, cap=softcap, sink_h=s_aux)
        outputs.append(output.transpose(1, 2).flatten(0, 1).flatten(1))
    # Copied even if it is one: layers would be compiled again for a view of another tensor.
    output_KF = torch.cat(outputs)
    if blocks.cell_K is not None:
        output_KF = nn.functional.embedding(blocks.cell_K, output_KF)
    return output_KF.view(1, len(output_KF), query_1hLD.shape[1], -1), None


def attend(
    query_nhSD: Tensor,
    key_nkSD: Tensor,
    value_nkSD: Tensor,
    band_SS: Tensor | None,
    *,
    scaling: float | None,
    cap: float | None,
    sink_h: Tensor | None,
) -> Tensor:
    """Attention of n rows, [n, h, S, D]: PyTorch's own, unless there is a soft cap or sinks."""
    if cap is None and sink_h is None:
        return nn.functional.scaled_dot_product_attention(
            query_nhSD,
            key_nkSD,
            value_nkSD,
            attn_mask=band_SS,
            is_causal=band_SS is None,
            scale=scaling,
            enable_gqa=query_nhSD.shape[1] != key_nkSD.shape[1],
        )
    rows = [
        capped_attention(
            *row,
            band_SS=band_SS,
            scale=query_nhSD.shape[-1] ** -0.5 if scaling is None else scaling,
            cap=cap,
            sink_h=sink_h,
        )
        for row in zip(*(x.split(1) for x in (query_nhSD, key_nkSD, value_nkSD)), strict=True)
    ]
    return torch.cat(rows)


def taken(x_KhD: Tensor, place: Tensor | slice) -> Tensor:
    """Tokens at some places, [*places, heads, D]; a slice is one row.

    As an embedding is looked up, whose gradient is the fast one of adding rows.
    """
    if isinstance(place, slice):
        return x_KhD[None, place]
    found = nn.functional.embedding(place, x_KhD.flatten(1))
    return found.view(*place.shape, *x_KhD.shape[1:])


def register_attention() -> None:
    """Make PACKED_ATTENTION known to transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    # A loop over rows, which no two micro-batches have alike, is nothing to compile.
    AttentionInterface.register(PACKED_ATTENTION, torch.compiler.disable(packed_attention))
    AttentionMaskInterface.register(PACKED_ATTENTION, row_mask)


def pack_attention(language_model: PreTrainedModel) -> None:
    """Let its attention be told where rows begin.

    Raises:
        ModelError: there is another attention, or a layer of another kind.
    """
    config = language_model.config
    register_attention()
    language_model.set_attn_implementation(PACKED_ATTENTION)
    # Recurrent and convolutional layers would carry one row's state into the next.
    others = other_kinds(config)
    if others or config._attn_implementation != PACKED_ATTENTION:
        raise ModelError(
            "model.policy.path",
            "its layers cannot be kept from mixing packed rows",
            value=", ".join(sorted(others)) or type(language_model).__name__,
            fix="use a model of attention layers that follows transformers' AttentionInterface",
        )
