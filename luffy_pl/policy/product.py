"""Matrix products on a CPU through oneDNN where MKL leaves half of the processor idle.

PyTorch sends float32 products on a CPU to MKL, which on AMD processors computes 256 bits at a
time. From Zen 5 on they can do 512: oneDNN, part of the same wheel and full float32 too, is about
twice as fast there. Elsewhere MKL stays, which can also add to what is there
(docs/performance.md). Chosen by the processor, not by a stopwatch: a resumed run must round as it
did before.
Shapes: M x K times the transpose of N x K.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

ZEN_5 = 26  # AMD's number for the family


def has_idle_half(cpuinfo: str) -> bool:
    """Whether, by Linux's /proc/cpuinfo, MKL would use half the width of the processor."""
    vendor = re.search(r"^vendor_id\s*: (\S+)", cpuinfo, re.MULTILINE)
    family = re.search(r"^cpu family\s*: (\d+)", cpuinfo, re.MULTILINE)
    is_amd = vendor is not None and vendor[1] == "AuthenticAMD"
    return is_amd and family is not None and int(family[1]) >= ZEN_5


def _onednn() -> Any:
    """What torch.compile emits for a linear layer on a CPU; a build without oneDNN has it not."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or not has_idle_half(cpuinfo.read_text()):
        return None
    is_built = torch.backends.mkldnn.is_available()
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None) if is_built else None


_ONEDNN = _onednn()


def product(left_MK: Tensor, right_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Left @ right^T + bias, [M, N], without gradient; either may be a transposed view."""
    if _ONEDNN is not None and is_cpu_float32(left_MK) and is_cpu_float32(right_NK):
        return _ONEDNN(left_MK, right_NK, bias_N, "none", [], "")
    return nn.functional.linear(left_MK, right_NK, bias_N)


def add_product(
    into_MN: Tensor, left_MK: Tensor, right_KN: Tensor, *, is_first: bool = False
) -> None:
    """Into += left @ right, without gradient; `into` may be wider than the factors' type.

    Args:
        is_first: nothing is there yet, not even zeros.
    """
    if is_first and into_MN.dtype == left_MK.dtype and _ONEDNN is None:
        torch.mm(left_MK, right_KN, out=into_MN)
        return
    if is_first:
        into_MN.zero_()
    if _ONEDNN is not None and is_cpu_float32(left_MK):
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
        eligible = _ONEDNN is not None and is_cpu_float32(input) and is_cpu_float32(self.weight)
        # torch.compile takes this operator for constant weights alone, and chooses one of its own.
        if not eligible or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
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
