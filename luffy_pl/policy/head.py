"""Log-probability and entropy of tokens, without the logits of a whole micro-batch.

Shapes in this file: M selected tokens, H hidden, V vocabulary; C tokens by B words of a tile.
At 32k tokens and V = 152k the float32 logits alone would be 20 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
        lse_M, mean_M, picked_M = torch.zeros(
            3, len(target_M), dtype=dtype, device=hidden_MH.device
        )
        kept = []
        for rows, words in tiles(len(target_M), len(weight_VH), tile):
            head = weight_VH[words], _part(bias_V, words)
            x_CB = made.of(hidden_MH[rows], *head)
            found = _add_tile(
                x_CB, words, target_M[rows], lse_M[rows], mean_M[rows], picked_M[rows]
            )
            if keeps:
                kept.append(found)
        entropy_M = lse_M - mean_M
        ctx.save_for_backward(hidden_MH, weight_VH, bias_V, target_M, lse_M, entropy_M)
        ctx.made, ctx.tile, ctx.kept = made, tile, kept
        ctx.set_materialize_grads(False)
        return picked_M - lse_M, entropy_M.clone()  # a saved output could be changed by the caller

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(grad is None for grad in grads):
            return (None,) * 7
        *head, target_M, lse_M, entropy_M = ctx.saved_tensors
        hidden_MH, weight_VH, bias_V = head
        scaled = [None if grad is None else ctx.made.by_z(grad) for grad in grads]
        kept = iter(ctx.kept)

        def of_tile(rows: slice, words: slice) -> tuple[Tensor, Tensor | None]:
            slope_CB = None
            if ctx.kept:
                exp_CB, max_C = next(kept)
                prob_CB = exp_CB * (max_C - lse_M[rows]).exp_()[:, None]
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

        every = tiles(len(target_M), len(weight_VH), ctx.tile)
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


def _add_tile(
    x_CB: Tensor, words: slice, target_C: Tensor, lse_C: Tensor, mean_C: Tensor, picked_C: Tensor
) -> tuple[Tensor, Tensor]:
    """Take a tile into lse = log sum e^x, mean = sum p x and the target's x; overwrites x.

    Returns e^(x - max) of the tile, [C, B], and its largest x in each row.
    """
    index_C, is_here_C = _where(target_C, words)
    found_C = x_CB.gather(1, index_C[:, None])[:, 0]
    picked_C.copy_(torch.where(is_here_C, found_C, picked_C))
    max_C = x_CB.amax(dim=1)
    exp_CB = (x_CB - max_C[:, None]).exp_()
    sum_C = exp_CB.sum(dim=1)
    tile_lse_C = max_C + sum_C.log()
    tile_mean_C = x_CB.mul_(exp_CB).sum(dim=1) / sum_C
    if words.start == 0:
        lse_C.copy_(tile_lse_C)
        mean_C.copy_(tile_mean_C)
    else:
        joint_C = torch.logaddexp(lse_C, tile_lse_C)
        mean_C.mul_((lse_C - joint_C).exp_())
        mean_C.addcmul_(tile_mean_C, (tile_lse_C - joint_C).exp_())
        lse_C.copy_(joint_C)
    return exp_CB, max_C


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
