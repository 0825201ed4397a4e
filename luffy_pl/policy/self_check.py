"""Whether rows together are what the model computes of each row alone, asked of the model itself.

Two rows that begin alike, longer than the smallest window, go through the policy as they do in
training, packed with their beginning computed once, or side by side; and each alone through the
model's own forward pass. No random number is drawn from a global generator, and no state is left
behind.
Shapes: N rows, L tokens, T = L - 1 predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from luffy_pl.attention.own import attention
from luffy_pl.errors import LuffyError, ModelError, named
from luffy_pl.policy.rotary import longest_row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FEWEST, MOST = 24, 320
"""Tokens of a row: without a window, and with a large one."""
PADDED = 96
"""Tokens of a row that is not packed, at least: beyond the chunks of most linear attention."""
BEYOND = 16
"""Tokens of a row beyond the smallest window."""
SEEDS = (0, 1)
"""Seeds of the tokens. A wrong policy differs with every seed; rounding that sends a token to
another expert does not."""


class SelfCheck:
    """Compares a policy with its model.

    Args:
        policy: of `token_ids_NL, predicted_mask_NT, num_tokens, num_shared, temperature`.
        model: the language model inside.
        packs_rows: whether the policy does.
        own_attention: the implementation that the model computes rows alone with.
        windows: of its attention, in tokens.
    """

    def __init__(
        self,
        policy: nn.Module,
        model: PreTrainedModel,
        *,
        packs_rows: bool,
        own_attention: str,
        windows: Collection[int],
    ) -> None:
        self.policy, self.model, self.packs_rows = policy, model, packs_rows
        self.own_attention, self.windows = own_attention, windows
        self.largest_logit = 0.0
        self.draw(SEEDS[0])

    def draw(self, seed: int) -> None:
        """Take other tokens."""
        found = two_rows(self.model, self.windows, seed, packs_rows=self.packs_rows)
        self.token_ids_NL, self.num_tokens, self.num_shared = found

    def run(self) -> float:
        """Largest difference in nats.

        Raises:
            ModelError: they differ by more than rounding; says why, as far as it can be found.
        """
        with undisturbed(self.policy), explained(self.model):
            for seed in SEEDS:
                self.draw(seed)
                own = [self.alone(row) for row in range(2)]
                gap_NT = self.gap(own, [[0, 1]], self.num_shared)
                if not self.is_wrong(gap_NT):
                    return gap_NT.max().item()
            cause = self.cause(own)
        together, gap = "packed" if self.packs_rows else "padded", gap_NT.max().item()
        raise ModelError(
            "model.policy.path",
            f"{together} rows are off by {gap:.3g} nats from the rows alone: {cause}",
            value=type(self.model).__name__,
            fix="use another model, or report this one: training it would be wrong",
        )

    def alone(self, row: int) -> Tensor:
        """Log-probability and entropy of a row's predictions by the model itself, [2, T]."""
        ids_1L = self.token_ids_NL[row : row + 1, : self.num_tokens[row]]
        self.model.eval()
        with attention(self.model, self.own_attention):
            logits_TV = self.model(input_ids=ids_1L, use_cache=False).logits[0, :-1].float()
        self.largest_logit = max(self.largest_logit, logits_TV.abs().max().item())
        logprob_TV = logits_TV.log_softmax(-1)
        entropy_T = -torch.xlogy(logprob_TV.exp(), logprob_TV.exp()).sum(-1)
        return torch.stack([logprob_TV.gather(-1, ids_1L[0, 1:, None])[:, 0], entropy_T])

    def gap(
        self,
        own: list[Tensor],
        passes: list[list[int]],
        num_shared: tuple[int, ...],
    ) -> Tensor:
        """Differences in nats, the larger of both values, [N, T]; not a number counts as infinite.

        Args:
            passes: the rows of each forward pass.
        """
        self.policy.train()
        gap_NT = torch.zeros(len(own), self.token_ids_NL.shape[1] - 1)
        for rows in passes:
            num_tokens = [self.num_tokens[row] for row in rows]
            place_T = torch.arange(max(num_tokens) - 1)
            found = self.policy(
                self.token_ids_NL[rows, : max(num_tokens)],
                place_T < torch.tensor(num_tokens)[:, None] - 1,
                num_tokens=num_tokens,
                num_shared=[num_shared[row] for row in rows],
                temperature=1.0,
            )
            for row, found_2T in zip(rows, torch.stack(found, dim=1), strict=True):
                length = self.num_tokens[row] - 1
                gap_2T = (found_2T[:, :length] - own[row]).abs().float()
                gap_NT[row, :length] = gap_2T.amax(0).nan_to_num(torch.inf).cpu()
        return gap_NT

    def is_wrong(self, gap_NT: Tensor) -> bool:
        """Whether differences are more than rounding."""
        most, mean = tolerances(self.model, self.largest_logit)
        return gap_NT.max().item() > most or gap_NT.mean().item() > mean

    def cause(self, own: list[Tensor]) -> str:
        """Why rows are off: what is left when one thing after the other is left out."""
        none = (0, 0)
        alone_NT = self.gap(own, [[0], [1]], none)
        if not self.is_wrong(alone_NT):
            if not self.packs_rows:
                return "a token changes with those behind it"
            if self.is_wrong(self.gap(own, [[0, 1]], none)):
                return (
                    "a row reaches into the next one, by a state that layers carry on (recurrence, "
                    "convolution) or by positions that the model counts itself"
                )
            return "its attention does not take a beginning that rows share"
        window = min(self.windows, default=None)
        if window is not None and not self.is_wrong(alone_NT[:, : window - 1]):
            return f"the window of its attention, {window} tokens, is not kept"
        return "positions, masks or logits are not those of its own forward pass"


def tolerances(model: PreTrainedModel, largest_logit: float) -> tuple[float, float]:
    """Nats that rounding may make: at one token, and on average.

    In float32 logits are off by some tens of units in the last place of the largest one.
    """
    device = model.device.type
    is_half = torch.is_autocast_enabled(device) or model.dtype.itemsize < 4
    # TensorFloat-32 rounds the factors of a product to 11 bits.
    is_half |= device == "cuda" and torch.get_float32_matmul_precision() != "highest"
    unit = torch.finfo(torch.float32).eps * max(1.0, largest_logit)
    return (3.0, 0.2) if is_half else (1000 * unit, 200 * unit)


def two_rows(
    model: PreTrainedModel, windows: Collection[int], seed: int, *, packs_rows: bool = True
) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
    """Token ids [2, L], lengths, and tokens that the second row shares with the first."""
    fewest = FEWEST if packs_rows else PADDED
    length = min(MOST, max(fewest, min(windows, default=0) + BEYOND))
    limits = (getattr(model.config, "max_position_embeddings", None), longest_row(model))
    length = min([length, *(limit for limit in limits if limit and limit > 0)])
    vocabulary = model.get_output_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(seed)
    ids_2L = torch.randint(vocabulary, (2, length), generator=generator)
    padding = getattr(model.config, "pad_token_id", None)
    if padding is not None:  # a model may warn of it
        ids_2L[ids_2L == padding] = (padding + 1) % vocabulary
    shared = length // 3
    ids_2L[1, :shared] = ids_2L[0, :shared]
    second = length - 3 if packs_rows else length * 5 // 8
    return ids_2L.to(model.device), (length, second), (0, shared)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Passes without gradient, without compiling; modes and generators are as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    is_compiled = any(module._compiled_call_impl is not None for module, _ in modes)
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if is_compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


@contextmanager
def explained(model: PreTrainedModel) -> Iterator[None]:
    """What a model's code says of what it cannot take, as one line."""
    try:
        yield
    except (LuffyError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of code that is not ours, and may be a hub's
        raise ModelError(
            "model.policy.path",
            f"its forward pass fails ({named(error)})",
            value=type(model).__name__,
            fix="use a decoder of attention layers that follows transformers' interfaces",
        ) from error
