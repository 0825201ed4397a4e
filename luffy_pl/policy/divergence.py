"""Divergence of the policy from a teacher over the vocabulary, without the logits of a micro-batch.

Shapes in this file: M selected tokens, H hidden, V vocabulary, K words of the teacher; C tokens by
B words of a tile. The teacher's hidden states are kept; its logits are computed with the policy's,
tile by tile, as often as those are.
Reference: GKD, arXiv 2306.13649, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from luffy_pl.policy.head import Logits, Tile, head_gradients, in_head_type, tile_of, tiles
from luffy_pl.policy.logits import LogitTransform


@dataclass(frozen=True)
class TeacherHead:
    """What a teacher says of M tokens: all that its logits are made of, without gradient."""

    hidden_MH: Tensor
    weight_VH: Tensor
    bias_V: Tensor | None = None
    transform: LogitTransform = field(default_factory=LogitTransform)


@dataclass(frozen=True)
class Divergence:
    """beta KL(q || m) + (1 - beta) KL(p || m), m = beta q + (1 - beta) p; teacher q, policy p.

    beta 0 is KL(q || p), which covers the teacher's modes, beta 1 is KL(p || q), which seeks one.
    top_k: words of each token that are compared, the teacher's likeliest; None compares all.
    tail: the other words are one more; else the words that are compared are renormalised.
    """

    beta: float
    top_k: int | None = None
    tail: bool = False


@dataclass(frozen=True)
class Against:
    """A teacher to compare with, and how."""

    teacher: TeacherHead
    divergence: Divergence


def token_divergence(
    hidden_MH: Tensor,
    weight_VH: Tensor,
    teacher: TeacherHead,
    divergence: Divergence,
    *,
    bias_V: Tensor | None = None,
    transform: LogitTransform = LogitTransform(),  # noqa: B008  frozen
    temperature: float = 1.0,
    in_float32: bool = False,
    chunk_tokens: int | None = None,
    tile_logits: int | None = None,
) -> Tensor:
    """The divergence of each token's distributions in nats, [M], differentiable once by the policy.

    Both distributions are softmax(logits / temperature) over the words that both heads have: heads
    of one tokenizer may be padded to different sizes. Memory grows with M by H and, of the
    teacher's words, by K.

    Args:
        weight_VH: of the head, gathered; so are the teacher's.
        in_float32, chunk_tokens, tile_logits: as of `token_logprob_and_entropy`.
    """
    device = hidden_MH.device.type
    num_words = min(len(weight_VH), len(teacher.weight_VH))
    own = in_head_type(hidden_MH, weight_VH, bias_V, in_float32=in_float32)
    theirs = in_head_type(
        teacher.hidden_MH, teacher.weight_VH, teacher.bias_V, in_float32=in_float32
    )
    task = _Task(
        divergence,
        made=Logits(transform, temperature),
        teacher_made=Logits(teacher.transform, temperature),
        num_words=num_words,
        tile=tile_of(device, chunk_tokens, tile_logits),
    )
    with torch.autocast(device, enabled=False):
        if divergence.top_k is None:
            return _WholeVocabulary.apply(*own, *theirs, task)
        picked_MK, teacher_MK, lse_M, teacher_lse_M = _TopWords.apply(*own, *theirs, task)
        return _of_words(picked_MK, teacher_MK, lse_M, teacher_lse_M, divergence)


@dataclass(frozen=True)
class _Task:
    """What does not change between tiles."""

    divergence: Divergence
    made: Logits
    teacher_made: Logits
    num_words: int
    tile: Tile


def divergence_terms(logp: Tensor, logq: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Each word's part of the divergence, and of what its gradient subtracts, both elementwise.

    The gradient by the logits of p is p (g - sum p g) with g the derivative by p: (1 - beta)
    log(p / m), or log(p / q) at beta 1; the second sum is that of p g. At beta 0 it is p - q.
    """
    p, q = logp.exp(), logq.exp()
    if beta == 0:
        return q * (logq - logp), torch.zeros_like(p)
    if beta == 1:
        of_p = p * (logp - logq)
        return of_p, of_p
    logm = torch.logaddexp(logq + math.log(beta), logp + math.log1p(-beta))
    of_p = (1 - beta) * p * (logp - logm)
    return beta * q * (logq - logm) + of_p, of_p


def divergence_gradient(logp: Tensor, logq: Tensor, subtracted: Tensor, beta: float) -> Tensor:
    """The derivative of the divergence by the logits of p; see `divergence_terms`."""
    p = logp.exp()
    if beta == 0:
        return p - logq.exp()
    if beta == 1:
        return p * (logp - logq - subtracted)
    logm = torch.logaddexp(logq + math.log(beta), logp + math.log1p(-beta))
    return p * ((1 - beta) * (logp - logm) - subtracted)


class _WholeVocabulary(torch.autograd.Function):
    """The divergence over all words: a pass for both normalisers, one for the sums, one back."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, task = arguments
        hidden_MH = tensors[0]
        dtype = torch.promote_types(hidden_MH.dtype, torch.float32)
        # Normalisers of both, the divergence, and what its gradient subtracts.
        lse_M, teacher_lse_M, sum_M, subtracted_M = torch.zeros(
            4, len(hidden_MH), dtype=dtype, device=hidden_MH.device
        )
        lse_M.fill_(-torch.inf), teacher_lse_M.fill_(-torch.inf)
        for rows, words in tiles(len(hidden_MH), task.num_words, task.tile):
            for x_CB, found_C in zip(
                _both(tensors, task, rows, words), (lse_M[rows], teacher_lse_M[rows]), strict=True
            ):
                found_C.copy_(torch.logaddexp(found_C, x_CB.logsumexp(dim=1)))
        for rows, words in tiles(len(hidden_MH), task.num_words, task.tile):
            logp_CB, logq_CB = _both(tensors, task, rows, words)
            logp_CB.sub_(lse_M[rows][:, None])
            logq_CB.sub_(teacher_lse_M[rows][:, None])
            terms = divergence_terms(logp_CB, logq_CB, task.divergence.beta)
            sum_M[rows] += terms[0].sum(dim=1)
            subtracted_M[rows] += terms[1].sum(dim=1)
        ctx.save_for_backward(*tensors, lse_M, teacher_lse_M, subtracted_M)
        ctx.task = task
        return sum_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, lse_M, teacher_lse_M, subtracted_M = ctx.saved_tensors
        task = ctx.task

        def gradient(rows: slice, words: slice) -> tuple[Tensor, Tensor | None]:
            x_CB, teacher_x_CB = _both(tensors, task, rows, words)
            slope_CB = task.made.slope(x_CB)
            logq_CB = teacher_x_CB.sub_(teacher_lse_M[rows][:, None])
            logp_CB = x_CB.sub_(lse_M[rows][:, None])
            found_CB = divergence_gradient(
                logp_CB, logq_CB, subtracted_M[rows][:, None], task.divergence.beta
            )
            return found_CB.mul_(task.made.by_z(grad_M[rows])[:, None]), slope_CB

        return _gradients(ctx, tensors, gradient, lse_M.dtype)


class _TopWords(torch.autograd.Function):
    """The policy's logits of the teacher's likeliest words, and both normalisers.

    Returns the logits [M, K] of policy and teacher and both normalisers [M]; the policy's two have
    gradients.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, task = arguments
        hidden_MH, num_picked = tensors[0], min(task.divergence.top_k, task.num_words)
        dtype = torch.promote_types(hidden_MH.dtype, torch.float32)
        shape = len(hidden_MH), num_picked
        picked_MK, teacher_MK = (hidden_MH.new_full(shape, -torch.inf, dtype=dtype) for _ in "pq")
        word_MK = torch.zeros(shape, dtype=torch.long, device=hidden_MH.device)
        lse_M, teacher_lse_M = (
            hidden_MH.new_full((len(hidden_MH),), -torch.inf, dtype=dtype) for _ in "pq"
        )
        for rows, words in tiles(len(hidden_MH), task.num_words, task.tile):
            x_CB, teacher_CB = _both(tensors, task, rows, words)
            for found_C, of_tile_CB in (
                (lse_M[rows], x_CB),
                (teacher_lse_M[rows], teacher_CB),
            ):
                found_C.copy_(torch.logaddexp(found_C, of_tile_CB.logsumexp(dim=1)))
            index_B = torch.arange(words.start, words.stop, device=x_CB.device)
            best_CK, place_CK = torch.cat((teacher_MK[rows], teacher_CB), 1).topk(num_picked, 1)
            teacher_MK[rows] = best_CK
            picked_MK[rows] = torch.cat((picked_MK[rows], x_CB), 1).gather(1, place_CK)
            word_MK[rows] = torch.cat((word_MK[rows], index_B.expand(len(x_CB), -1)), 1).gather(
                1, place_CK
            )
        ctx.save_for_backward(*tensors, lse_M, word_MK)
        ctx.task = task
        ctx.mark_non_differentiable(teacher_MK, teacher_lse_M)
        return picked_MK, teacher_MK, lse_M.clone(), teacher_lse_M

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_MK: Tensor, _: Tensor, lse_grad_M: Tensor, __: Tensor
    ) -> tuple[Tensor | None, ...]:
        *tensors, lse_M, word_MK = ctx.saved_tensors
        task = ctx.task

        def gradient(rows: slice, words: slice) -> tuple[Tensor, Tensor | None]:
            x_CB = _logits(tensors[:3], task.made, rows, words)
            slope_CB = task.made.slope(x_CB)
            p_CB = x_CB.sub_(lse_M[rows][:, None]).exp_()
            found_CB = p_CB.mul_(task.made.by_z(lse_grad_M[rows])[:, None])
            word_CK = word_MK[rows]
            is_here_CK = (word_CK >= words.start) & (word_CK < words.stop)
            grad_CK = task.made.by_z(grad_MK[rows]) * is_here_CK
            found_CB.scatter_add_(1, (word_CK - words.start) * is_here_CK, grad_CK)
            return found_CB, slope_CB

        return _gradients(ctx, tensors, gradient, lse_M.dtype)


def _of_words(
    picked_MK: Tensor,
    teacher_MK: Tensor,
    lse_M: Tensor,
    teacher_lse_M: Tensor,
    divergence: Divergence,
) -> Tensor:
    """The divergence over some words, [M], by ordinary operations."""
    found = []
    for x_MK, of_all_M in ((picked_MK, lse_M), (teacher_MK, teacher_lse_M)):
        if not divergence.tail:
            found.append(x_MK.log_softmax(dim=1))
            continue
        log_MK = x_MK - of_all_M[:, None]
        # What is left can round to nothing, whose logarithm has no gradient.
        rest_M = (1 - log_MK.exp().sum(dim=1)).clamp(min=torch.finfo(log_MK.dtype).tiny)
        found.append(torch.cat((log_MK, rest_M.log()[:, None]), dim=1))
    return divergence_terms(found[0], found[1], divergence.beta)[0].sum(dim=1)


def _both(tensors: list[Any], task: _Task, rows: slice, words: slice) -> tuple[Tensor, Tensor]:
    """Logits of policy and teacher of a tile, divided by the temperature, [C, B]."""
    own = _logits(tensors[:3], task.made, rows, words)
    return own, _logits(tensors[3:], task.teacher_made, rows, words).to(own.dtype)


def _logits(head: list[Any], made: Logits, rows: slice, words: slice) -> Tensor:
    hidden_MH, weight_VH, bias_V = head
    return made.of(hidden_MH[rows], weight_VH[words], None if bias_V is None else bias_V[words])


def _gradients(
    ctx: Any,
    tensors: list[Any],
    gradient: Callable[[slice, slice], tuple[Tensor, Tensor | None]],
    dtype: torch.dtype,
) -> tuple[Tensor | None, ...]:
    """Gradients by the policy's hidden states, head and bias; none by the teacher's."""
    found = head_gradients(
        tensors[:3],
        ctx.needs_input_grad[:3],
        tiles(len(tensors[0]), ctx.task.num_words, ctx.task.tile),
        gradient,
        dtype=dtype,
    )
    return *found, None, None, None, None
