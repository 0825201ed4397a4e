"""What a model does on the way from its last hidden state to its logits, read off its own forward.

Neither a list of families nor a field of a configuration is asked: the model runs, its head
replaced. What reaches the head is what the policy's own head reads, whatever layers or factors lie
in between; numbers that leave it in place of logits show what is done to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from luffy_pl.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Powers of two, exact in every type: from where a soft cap is a line to where it is flat.
PROBES = tuple(sign * 2.0**power for power in range(-7, 21) for sign in (1, -1))
SMALLEST, LARGEST = 2.0**-7, 2.0**20


@dataclass(frozen=True)
class LogitTransform:
    """f(z) = scale z, or cap tanh(scale z / cap), of the product z of hidden state and head.

    Granite divides its logits (scale), Gemma 2 caps them (`final_logit_softcapping`,
    arXiv 2408.00118, section 2).
    """

    scale: float = 1.0
    cap: float | None = None

    def apply_(self, z: Tensor) -> Tensor:
        """Overwrite z with f(z); where nothing is done, no bit changes."""
        if self.scale != 1.0:
            z.mul_(self.scale)
        return z if self.cap is None else z.div_(self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Tensor) -> Tensor | None:
        """Derivative of f over scale, a new tensor, from f(z); None where it is 1 everywhere."""
        return None if self.cap is None else logits.div(self.cap).square_().neg_().add_(1.0)


def head_input(model: PreTrainedModel, **inputs: Any) -> tuple[Tensor, Any]:
    """What the model's own forward hands to its head, [..., H], and what else it puts out.

    Logits are not computed.

    Raises:
        ModelError: the head is not called once.
    """
    head = model.get_output_embeddings()
    seen: list[Tensor] = []

    def note(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        # The model may do as it likes with logits that have a shape and no numbers.
        return hidden.new_empty(*hidden.shape[:-1], head.weight.shape[0], device="meta")

    with head_replaced(head, note):
        output = model(**inputs)
    if len(seen) != 1:
        raise ModelError(
            "model.policy.path",
            f"its head is called {len(seen)} times in a forward pass, not once",
            value=type(model).__name__,
            fix="use a model whose logits are one product of a hidden state and a head",
        )
    return seen[0], output


def read_transform(model: PreTrainedModel, **inputs: Any) -> LogitTransform:
    """What the model does to the output of its head.

    Args:
        inputs: of a forward pass with room for all PROBES among its logits.

    Raises:
        ModelError: neither a factor nor a soft cap, the same for every token and word.
    """
    head = model.get_output_embeddings()
    put: list[Tensor] = []

    def probes(hidden: Tensor) -> Tensor:
        shape = *hidden.shape[:-1], head.weight.shape[0]
        places = torch.arange(torch.Size(shape).numel()) % len(PROBES)
        put.append(torch.tensor(PROBES, dtype=torch.float64)[places].view(shape))
        return put[-1].to(hidden.device, copy=True)

    with head_replaced(head, probes):
        logits = model(**inputs).logits
    # A model may round its logits to the type of its weights.
    tolerance = 1e-5 if torch.finfo(logits.dtype).bits >= 32 else 1e-2
    if [logits.shape] == [z.shape for z in put]:
        found = logits.double().cpu()
        [z] = put
        transform = _recognised(
            dict(zip(z.view(-1).tolist(), found.view(-1).tolist(), strict=True))
        )
        if torch.allclose(found, transform.apply_(z.clone()), rtol=tolerance, atol=0):
            return transform
    raise ModelError(
        "model.policy.path",
        "its logits are changed in a way that is neither a factor nor a soft cap",
        value=type(model).__name__,
        fix="use a model whose logits are scale z, or cap tanh(scale z / cap)",
    )


def _recognised(value: Mapping[float, float]) -> LogitTransform:
    """Estimate from f at two probes; the caller checks whether it fits all of them."""
    slope = value[SMALLEST] / SMALLEST
    if abs(value[LARGEST] - slope * LARGEST) <= 1e-6 * abs(slope * LARGEST):
        return LogitTransform(scale=slope)
    cap = abs(value[LARGEST])
    share = torch.tensor(value[SMALLEST] / cap if cap else torch.nan, dtype=torch.float64)
    return LogitTransform(scale=cap * share.atanh().item() / SMALLEST, cap=cap)


@contextmanager
def head_replaced(head: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The head computes something else for as long; its weights and their names stay."""
    head.forward = forward
    try:
        yield
    finally:
        del head.forward
