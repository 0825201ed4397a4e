"""What a token's term is divided by.

Shapes in this file: N rows of a micro-batch, T predictions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

NormalizeMode = Literal["token", "sequence", "constant"]


def token_weight(
    mask_NT: Tensor,
    *,
    mode: NormalizeMode,
    total_tokens: float | Tensor,
    total_rows: float | Tensor,
    constant_tokens: int | None = None,
) -> Tensor:
    """Weights with which a plain sum over all micro-batches and ranks is the normalised term.

    token     mask / total_tokens: every token counts the same (DAPO).
    sequence  mask / (tokens of the row * total_rows): every row counts the same (GRPO).
    constant  mask / (constant_tokens * total_rows): no length enters (Dr. GRPO).

    Both totals are the caller's counts over all micro-batches and ranks of one optimizer step,
    so that no split, packing, order or sharding of the rows changes the gradient.

    The released LUFFY sums a rank's tokens, divides by the padded response length and averages
    over ranks: that is constant with total_rows = number of ranks, not rows. At its 64 rows per
    rank the term is 64 times a mean over rows, which matters beside an entropy or KL term.

    Args:
        mask_NT: bool or 0/1; a mask without tokens gives weights of 0.
        constant_tokens: in tokens, of mode constant: the longest response of the run.
    """
    divisor: float | Tensor
    match mode:
        case "token":
            divisor = total_tokens
        case "sequence":
            divisor = mask_NT.sum(dim=1, keepdim=True) * total_rows
        case "constant":
            if constant_tokens is None:
                raise ValueError("mode constant needs constant_tokens, the tokens to divide by")
            divisor = constant_tokens * total_rows
    # Where nothing is counted the divisor is 0 and so is the mask: the weight is 0, not NaN.
    return (mask_NT / divisor).masked_fill(mask_NT == 0, 0.0)
