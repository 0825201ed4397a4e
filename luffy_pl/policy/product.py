"""Matrix products on a CPU through oneDNN where MKL leaves half of the processor idle.

PyTorch sends float32 products on a CPU to MKL, which on AMD processors computes 256 bits at a
time. From Zen 5 on they can do 512: oneDNN, part of the same wheel and full float32 too, is about
twice as fast there. Zen 4 takes 512 bits in two steps, and oneDNN is a little faster where the left
factor lies in memory as it is read; MKL is for gradients of weights. Elsewhere MKL stays, which can
also add to what is there (docs/performance.md). Chosen by the processor, not by a stopwatch: a
resumed run must round as it did before.
Shapes: M x K times the transpose of N x K.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

ZEN_4, ZEN_5 = 25, 26  # AMD's numbers for the families
LEAST_NUMBERS = 2**15


def onednn_products(cpuinfo: str) -> Literal["all", "contiguous", "none"]:
    """What oneDNN is for, by Linux's /proc/cpuinfo: all products, or those of a contiguous left."""
    vendor = re.search(r"^vendor_id\s*: (\S+)", cpuinfo, re.MULTILINE)
    family = re.search(r"^cpu family\s*: (\d+)", cpuinfo, re.MULTILINE)
    if vendor is None or vendor[1] != "AuthenticAMD" or family is None:
        return "none"
    if int(family[1]) >= ZEN_5:
        return "all"
    # Zen 3 has the same number and no 512 bits.
    is_zen_4 = int(family[1]) == ZEN_4 and re.search(r"^flags.*\bavx512f\b", cpuinfo, re.MULTILINE)
    return "contiguous" if is_zen_4 else "none"


def _onednn() -> tuple[Any, bool]:
    """What torch.compile emits for a linear layer on a CPU, and whether it takes any factor.

    A build without oneDNN has it not.
    """
    cpuinfo = Path("/proc/cpuinfo")
    is_for = onednn_products(cpuinfo.read_text()) if cpuinfo.exists() else "none"
    if is_for == "none" or not torch.backends.mkldnn.is_available():
        return None, False
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None), is_for == "all"


_ONEDNN, _TAKES_VIEWS = _onednn()


def is_for_onednn(left_MK: Tensor, right: Tensor) -> bool:
    """Whether oneDNN multiplies such factors; calls with a small right one cost more than MKL's."""
    is_taken = _ONEDNN is not None and (_TAKES_VIEWS or left_MK.is_contiguous())
    is_large = right.numel() >= LEAST_NUMBERS
    return is_taken and is_large and is_cpu_float32(left_MK) and is_cpu_float32(right)


def product(left_MK: Tensor, right_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Left @ right^T + bias, [M, N], without gradient; either may be a transposed view."""
    if is_for_onednn(left_MK, right_NK):
        return _ONEDNN(left_MK, right_NK, bias_N, "none", [], "")
    return nn.functional.linear(left_MK, right_NK, bias_N)


def add_product(
    into_MN: Tensor, left_MK: Tensor, right_KN: Tensor, *, is_first: bool = False
) -> None:
    """Into += left @ right, without gradient; `into` may be wider than the factors' type.

    Args:
        is_first: nothing is there yet, not even zeros.
    """
    if is_first and into_MN.dtype == left_MK.dtype and not is_for_onednn(left_MK, right_KN):
        torch.mm(left_MK, right_KN, out=into_MN)
        return
    if is_first:
        into_MN.zero_()
    if is_for_onednn(left_MK, right_KN):
        if left_MK.is_contiguous():
            into_MN += product(left_MK, right_KN.t())
        else:  # oneDNN copies a left factor that is a view: better the smaller of the two
            into_MN += product(right_KN.t().contiguous(), left_MK).t()
    elif into_MN.dtype == left_MK.dtype:
        into_MN.addmm_(left_MK, right_KN)
    else:
        into_MN += left_MK @ right_KN


def is_cpu_float32(tensor: Tensor) -> bool:
    """Whether it is what oneDNN is for here, and no part of a tensor over several ranks."""
    is_whole = not isinstance(tensor, DTensor)
    return is_whole and tensor.device.type == "cpu" and tensor.dtype == torch.float32


class CpuLinear(nn.Linear):
    """nn.Linear with all three products by `product`, where they are of float32 on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Input [..., K] to [..., N]."""
        # torch.compile takes this operator for constant weights alone, and chooses one of its own.
        is_torchs = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        if is_torchs or not is_for_onednn(input, self.weight):
            return super().forward(input)
        found = _Linear.apply(input.flatten(0, -2), self.weight, self.bias)
        return found.view(*input.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        # The input is for the gradient of the weight alone, and a frozen one has none.
        ctx.save_for_backward(x_MK if ctx.needs_input_grad[1] else None, weight_NK)
        return product(x_MK, weight_NK, bias_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MN: Tensor) -> tuple[Tensor | None, ...]:
        x_MK, weight_NK = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            product(grad_MN, weight_NK.t()) if needs_x else None,
            product(grad_MN.t(), x_MK.t()) if needs_weight else None,
            grad_MN.sum(dim=0) if needs_bias else None,
        )


def use_cpu_linear(model: nn.Module) -> None:
    """Let every linear layer of a model be a `CpuLinear`; weights and their names stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = CpuLinear
