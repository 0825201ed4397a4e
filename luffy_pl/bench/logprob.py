"""Log-probabilities and entropies from hidden states, with their gradients, and nothing else."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from luffy_pl.bench.gemm import head_seconds
from luffy_pl.bench.machine import median_seconds
from luffy_pl.policy.head import token_logprob_and_entropy
from luffy_pl.training.memory import keep_freed_memory, peak_bytes


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of a forward and backward pass; fraction: of three products in that time.

    Where there are too many logits to keep, the pass has a fourth product: they are computed again.
    """
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    hidden_MH = torch.randn(args.tokens, args.hidden, generator=generator).requires_grad_()
    weight_VH = (0.02 * torch.randn(args.vocab, args.hidden, generator=generator)).requires_grad_()
    target_M = torch.randint(args.vocab, (args.tokens,), generator=generator)

    def once() -> None:
        logprob_M, entropy_M = token_logprob_and_entropy(hidden_MH, weight_VH, target_M)
        (logprob_M.sum() + entropy_M.sum()).backward()
        hidden_MH.grad = weight_VH.grad = None

    cpu_s, wall_s = median_seconds(once, steps=args.steps)
    peak_mib = peak_bytes() // 2**20
    limit_s = head_seconds(args.tokens, args.hidden, args.vocab)
    return {
        "bench": "logprob",
        "step_s": wall_s,
        "step_cpu_s": cpu_s,
        "tokens_per_s": args.tokens / wall_s,
        "peak_rss_mib": peak_mib,
        "limit_cpu_s": limit_s,
        "fraction": limit_s / cpu_s,
    }
