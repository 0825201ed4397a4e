"""Log-probability and entropy of tokens, without the logits of a whole micro-batch.

Shapes in this file: M selected tokens, H hidden, V vocabulary; C tokens by B words of a tile.
At 32k tokens and V = 152k the float32 logits alone would be 20 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from luffy_pl.policy.logits import LogitTransform
from luffy_pl.policy.product import add_product, product

Tile = tuple[int, int]
# Most tokens and logits of a tile. On a CPU a MB in float32, which stays in cache between the
# product that makes it and the one that uses it up; on a GPU launches cost more than memory.
TILES = {"cpu": (512, 2**18)}
TILE_GPU = (1024, 2**27)
# The exponentials of so many logits are kept for the backward pass; with more, every tile is
# computed a second time.
KEPT = {"cpu": 2**25}
KEPT_GPU = 2**27
# Exponentials of a row are taken relative to one of its logits, which another may exceed by so
# much before they are all taken again.
SLACK = 8.0


def token_logprob_and_entropy(
    hidden_MH: Tensor,
    weight_VH: Tensor,
    target_M: Tensor,
    *,
    bias_V: Tensor | None = None,
    transform: LogitTransform = LogitTransform(),  # noqa: B008  frozen
    temperature: float = 1.0,
    in_float32: bool = False,
    chunk_tokens: int | None = None,
    tile_logits: int | None = None,
    kept_logits: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of the targets and entropy of softmax(logits / temperature), both [M].

    logits = f(hidden weight^T + bias), with f the model's `transform`. In nats, at least float32,
    both differentiable once. Up to `kept_logits` their exponentials wait for the backward pass;
    beyond that, and with a soft cap, a tile of them lives for a moment, there again, and memory
    does not grow with M. Without tokens the result still
    hangs on the graph of hidden and weight, so that a distributed backward happens.

    Args:
        weight_VH: of the head. A sharded one must be gathered: nothing here communicates.
        transform: what the model does to its logits: a factor, a soft cap, or nothing.
        temperature: the sampler's, as in the released code.
        in_float32: compute the logits in float32, whatever the types of hidden and weight.
        chunk_tokens: most tokens of a tile; by default what suits the device.
        tile_logits: most logits at once; the same.
        kept_logits: most whose exponentials are kept; the same.
    """
    device = hidden_MH.device.type
    hidden_MH, weight_VH, bias_V = in_head_type(hidden_MH, weight_VH, bias_V, in_float32=in_float32)
    tile = tile_of(device, chunk_tokens, tile_logits)
    most = KEPT.get(device, KEPT_GPU) if kept_logits is None else kept_logits
    keeps = torch.is_grad_enabled() and len(target_M) * len(weight_VH) <= most
    # The slope of a cap is found in the logits, not in their exponentials.
    keeps = keeps and transform.cap is None
    made = Logits(transform, temperature)
    with torch.autocast(device, enabled=False):  # it would choose the products' type by itself
        return _Head.apply(hidden_MH, weight_VH, bias_V, target_M, made, tile, keeps)


def in_head_type(
    hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, *, in_float32: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden states, head and bias in the types that their product is computed in."""
    device = hidden_MH.device.type
    if in_float32:
        bias_V = None if bias_V is None else bias_V.float()
        return hidden_MH.float(), weight_VH.float(), bias_V
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        return hidden_MH.to(dtype), weight_VH.to(dtype), bias_V
    return hidden_MH, weight_VH, bias_V


def tile_of(device: str, chunk_tokens: int | None, tile_logits: int | None) -> Tile:
    """Most tokens and most logits of a tile, where they are not given those of the device."""
    tokens, size = TILES.get(device, TILE_GPU)
    return chunk_tokens or tokens, tile_logits or size


@dataclass(frozen=True)
class Logits:
    """How x is made of the product z of hidden states and head: x = f(z) / temperature."""

    transform: LogitTransform
    temperature: float

    def of(self, hidden_CH: Tensor, weight_BH: Tensor, bias_B: Tensor | None) -> Tensor:
        """x, [C, B]."""
        z_CB = product(hidden_CH, weight_BH, bias_B)
        # bfloat16 has 8 bits: its log-probabilities are off by percents. float64 stays.
        x_CB = self.transform.apply_(z_CB.to(torch.promote_types(z_CB.dtype, torch.float32)))
        return x_CB if self.temperature == 1.0 else x_CB.div_(self.temperature)

    def by_z(self, grad_M: Tensor) -> Tensor:
        """A gradient by x as one by z, all but the `slope`."""
        scale = self.transform.scale
        return grad_M / self.temperature if scale == 1.0 else grad_M * (scale / self.temperature)

    def slope(self, x_CB: Tensor) -> Tensor | None:
        """Slope of a soft cap, relative to its scale; None without one."""
        if self.transform.cap is None:
            return None
        return self.transform.slope(x_CB * self.temperature)


class _Head(torch.autograd.Function):
    """x = f(z) / temperature; log p = x_target - lse; entropy = lse - sum p x."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        target_M: Tensor,
        made: Logits,
        tile: Tile,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(hidden_MH.dtype, torch.float32)
        sums = _Sums(*torch.zeros(4, len(target_M), dtype=dtype, device=hidden_MH.device))
        kept: list[Tensor] = []
        of_chunk: list[Tensor] = []  # the tiles of the same rows
        for rows, words in tiles(len(target_M), len(weight_VH), tile):
            x_CB = made.of(hidden_MH[rows], weight_VH[words], _part(bias_V, words))
            exp_CB, shrink_C = sums.rows(rows).add(x_CB, words, target_M[rows])
            if not keeps:
                continue
            of_chunk = of_chunk if words.start else []
            if shrink_C is not None:
                for earlier_CB in of_chunk:
                    earlier_CB.mul_(shrink_C[:, None])
            of_chunk.append(exp_CB)
            kept.append(exp_CB)
        log_sum_M = sums.total_M.log()
        lse_M = sums.ref_M + log_sum_M
        entropy_M = log_sum_M - sums.mean_M / sums.total_M
        ctx.save_for_backward(
            hidden_MH, weight_VH, bias_V, target_M, lse_M, entropy_M, sums.total_M
        )
        ctx.made, ctx.tile, ctx.kept = made, tile, kept
        ctx.set_materialize_grads(False)
        # A saved output could be changed by the caller.
        return sums.picked_M - lse_M, entropy_M.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(grad is None for grad in grads):
            return (None,) * 7
        *head, target_M, lse_M, entropy_M, total_M = ctx.saved_tensors
        hidden_MH, weight_VH, bias_V = head
        scaled = [None if grad is None else ctx.made.by_z(grad) for grad in grads]
        kept = iter(ctx.kept)
        every = tiles(len(target_M), len(weight_VH), ctx.tile)

        def prob_or_exp(rows: slice, words: slice) -> Tensor:
            """exp(x - ref) where it is kept, else p; x itself is not there any more."""
            if ctx.kept:
                return next(kept)
            x_CB = ctx.made.of(hidden_MH[rows], weight_VH[words], _part(bias_V, words))
            return x_CB.sub_(lse_M[rows][:, None]).exp_()

        logprob_grad_M, entropy_grad_M = scaled
        is_plain = entropy_grad_M is None and ctx.made.transform.cap is None
        if is_plain and logprob_grad_M is not None and hidden_MH.dtype == lse_M.dtype:
            share_M = logprob_grad_M / total_M if ctx.kept else logprob_grad_M
            found = plain_gradients(
                head,
                ctx.needs_input_grad[:3],
                every,
                prob_or_exp,
                target_M=target_M,
                grad_M=logprob_grad_M,
                share_M=share_M,
            )
            return *found, None, None, None, None

        def of_tile(rows: slice, words: slice) -> tuple[Tensor, Tensor | None]:
            slope_CB = None
            if ctx.kept:
                prob_CB = next(kept) / total_M[rows][:, None]
            else:
                x_CB = ctx.made.of(hidden_MH[rows], weight_VH[words], _part(bias_V, words))
                slope_CB = ctx.made.slope(x_CB)
                prob_CB = x_CB.sub_(lse_M[rows][:, None]).exp_()
            grad_CB = _logits_grad(
                prob_CB,
                words,
                target_M[rows],
                entropy_M[rows],
                *(None if g is None else g[rows] for g in scaled),
            )
            return grad_CB, slope_CB

        found = head_gradients(head, ctx.needs_input_grad[:3], every, of_tile, dtype=lse_M.dtype)
        return *found, None, None, None, None


def head_gradients(
    head: Sequence[Tensor | None],
    needs: Sequence[bool],
    every: Iterator[tuple[slice, slice]],
    of_tile: Callable[[slice, slice], tuple[Tensor, Tensor | None]],
    *,
    dtype: torch.dtype,
) -> list[Tensor | None]:
    """Gradients by hidden states, weight and bias, of those by z of each tile; None if not needed.

    Args:
        head: hidden_MH, weight_VH and bias_V.
        every: the tiles; words beyond them have no gradient.
        of_tile: gives the gradient of a tile by z but for the slope of f, and that slope, None
            where it is 1; both may be overwritten.
        dtype: of the sums.
    """
    hidden_MH, weight_VH, bias_V = head
    assert hidden_MH is not None
    assert weight_VH is not None
    needs_hidden, needs_weight, needs_bias = needs
    empty = torch.empty_like if len(hidden_MH) else torch.zeros_like  # nothing would fill it
    hidden_grad_MH = empty(hidden_MH, dtype=dtype) if needs_hidden else None
    weight_grad_VH = empty(weight_VH, dtype=dtype) if needs_weight else None
    bias_grad_V = (
        torch.zeros_like(bias_V, dtype=dtype) if bias_V is not None and needs_bias else None
    )
    last = 0
    for rows, words in every:
        grad_CB, slope_CB = of_tile(rows, words)
        if slope_CB is not None:
            grad_CB.mul_(slope_CB)
        grad_CB = grad_CB.to(hidden_MH.dtype)
        if hidden_grad_MH is not None:
            add_product(hidden_grad_MH[rows], grad_CB, weight_VH[words], is_first=words.start == 0)
        if weight_grad_VH is not None:
            add_product(
                weight_grad_VH[words], grad_CB.t(), hidden_MH[rows], is_first=rows.start == 0
            )
        if bias_grad_V is not None:
            bias_grad_V[words] += grad_CB.sum(dim=0, dtype=bias_grad_V.dtype)
        last = words.stop
    if weight_grad_VH is not None and len(hidden_MH):
        weight_grad_VH[last:] = 0.0
    found = zip((hidden_grad_MH, weight_grad_VH, bias_grad_V), head, strict=True)
    return [g if g is None or like is None else g.to(like.dtype) for g, like in found]


def plain_gradients(
    head: Sequence[Tensor | None],
    needs: Sequence[bool],
    every: Iterator[tuple[slice, slice]],
    of_tile: Callable[[slice, slice], Tensor],
    *,
    target_M: Tensor,
    grad_M: Tensor,
    share_M: Tensor,
) -> list[Tensor | None]:
    """As `head_gradients`, where the gradient by z is grad (onehot - p): no tile is changed.

    The factor of a row is multiplied with its hidden state and its sum instead, and the targets are
    added at the end.

    Args:
        of_tile: gives e, p times a number for each row, [C, B].
        grad_M: of the target's log-probability, by z.
        share_M: grad p / e.
    """
    hidden_MH, weight_VH, bias_V = head
    assert hidden_MH is not None
    assert weight_VH is not None
    needs_hidden, needs_weight, needs_bias = needs
    empty = torch.empty_like if len(hidden_MH) else torch.zeros_like  # nothing would fill it
    hidden_grad_MH = empty(hidden_MH) if needs_hidden else None
    weight_grad_VH = empty(weight_VH) if needs_weight else None
    bias_grad_V = torch.zeros_like(bias_V) if bias_V is not None and needs_bias else None
    pushed_MH = hidden_MH * -share_M[:, None]
    for rows, words in every:
        e_CB = of_tile(rows, words)
        if hidden_grad_MH is not None:
            add_product(hidden_grad_MH[rows], e_CB, weight_VH[words], is_first=words.start == 0)
        if weight_grad_VH is not None:
            is_first = rows.start == 0
            add_product(weight_grad_VH[words], e_CB.t(), pushed_MH[rows], is_first=is_first)
        if bias_grad_V is not None:
            bias_grad_V[words] -= share_M[rows] @ e_CB
    if hidden_grad_MH is not None:
        hidden_grad_MH.mul_(-share_M[:, None]).addcmul_(weight_VH[target_M], grad_M[:, None])
    if weight_grad_VH is not None:
        weight_grad_VH.index_add_(0, target_M, hidden_MH * grad_M[:, None])
    if bias_grad_V is not None:
        bias_grad_V.index_add_(0, target_M, grad_M)
    return [hidden_grad_MH, weight_grad_VH, bias_grad_V]


def tiles(num_tokens: int, vocab: int, tile: Tile) -> Iterator[tuple[slice, slice]]:
    """Slices of tokens and of words; the words of a chunk of tokens follow each other."""
    most_tokens, tile_logits = tile
    num_chunks = max(1, -(-num_tokens // most_tokens))
    chunk_tokens = max(1, -(-num_tokens // num_chunks))
    width = max(1, tile_logits // chunk_tokens)
    for start in range(0, num_tokens, chunk_tokens):
        for first in range(0, vocab, width):
            yield slice(start, start + chunk_tokens), slice(first, min(vocab, first + width))


def _part(bias_V: Tensor | None, words: slice) -> Tensor | None:
    return None if bias_V is None else bias_V[words]


class _Sums(NamedTuple):
    """What tiles add up to in each row: of e = exp(x - ref) the sum, and that of e (x - ref).

    picked_M: x of the target.
    """

    ref_M: Tensor
    total_M: Tensor
    mean_M: Tensor
    picked_M: Tensor

    def rows(self, rows: slice) -> _Sums:
        """Those of some rows, the same memory."""
        return _Sums(*(each[rows] for each in self))

    def add(self, x_CB: Tensor, words: slice, target_C: Tensor) -> tuple[Tensor, Tensor | None]:
        """Take a tile in; overwrites x.

        Returns e of the tile, and what e of the tiles before is to be multiplied by; None: nothing.
        """
        index_C, is_here_C = _where(target_C, words)
        found_C = x_CB.gather(1, index_C[:, None])[:, 0]
        self.picked_M.copy_(torch.where(is_here_C, found_C, self.picked_M))
        shrink_C = self._raise(x_CB.amax(dim=1), is_first=words.start == 0)
        exp_CB = x_CB.sub_(self.ref_M[:, None]).exp()
        self.total_M.add_(exp_CB.sum(dim=1))
        self.mean_M.add_(x_CB.mul_(exp_CB).sum(dim=1))
        return exp_CB, shrink_C

    def _raise(self, max_C: Tensor, *, is_first: bool) -> Tensor | None:
        """Let ref follow the largest x; what the sums were multiplied by for that."""
        if is_first:
            self.ref_M.copy_(max_C)
            return None
        higher_C = torch.where(max_C > self.ref_M + SLACK, max_C, self.ref_M)
        # A GPU would have to be waited for.
        if higher_C.device.type == "cpu" and torch.equal(higher_C, self.ref_M):
            return None
        down_C = self.ref_M - higher_C
        shrink_C = down_C.exp()
        self.mean_M.addcmul_(down_C, self.total_M).mul_(shrink_C)
        self.total_M.mul_(shrink_C)
        self.ref_M.copy_(higher_C)
        return shrink_C


def _logits_grad(
    prob_CB: Tensor,
    words: slice,
    target_C: Tensor,
    entropy_C: Tensor,
    logprob_grad_C: Tensor | None,
    entropy_grad_C: Tensor | None,
) -> Tensor:
    """D log p = onehot - p and d entropy = -p (log p + entropy), by x; overwrites p."""
    if logprob_grad_C is None:
        logprob_grad_C = torch.zeros_like(entropy_C)
    if entropy_grad_C is None:
        grad_CB = prob_CB.mul_(-logprob_grad_C[:, None])
    else:
        minus_C = -(entropy_grad_C * entropy_C + logprob_grad_C)
        surprise_CB = torch.xlogy(prob_CB, prob_CB).mul_(-entropy_grad_C[:, None])
        grad_CB = prob_CB.mul_(minus_C[:, None]).add_(surprise_CB)
    index_C, is_here_C = _where(target_C, words)
    return grad_CB.scatter_add_(1, index_C[:, None], (logprob_grad_C * is_here_C)[:, None])


def _where(target_C: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Column of each target in the tile, any where it lies in another one, and whether it does."""
    is_here_C = (target_C >= words.start) & (target_C < words.stop)
    return (target_C - words.start) * is_here_C, is_here_C
