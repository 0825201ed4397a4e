"""What training saw of each token of a response: where it stands in the text, p, its weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor

from luffy_pl.callbacks.expert import token_weights
from luffy_pl.objective.normalize import policy_mask
from luffy_pl.records import Experience, Group
from luffy_pl.training.module import LuffyModule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DECIMALS = 4


def token_values(
    module: LuffyModule,
    outputs: Any,
    batch: Experience,
    groups: Sequence[Group],
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, list[Any]]]:
    """For each response of the first `groups` of the batch, three lists with a value per token.

    token_characters: characters it adds to the text.
    logprobs: nats, under the policy when it was trained on.
    weights: in the policy term, after shaping, clip and clamps; null outside of that term.

    A response that was not trained on has the first alone; one whose tokens cannot be laid over
    its text has none of them.
    """
    responses = [
        (len(group.prompt.token_ids) - 1, response)
        for group in groups
        for response in group.responses
    ]
    rows = batch.rows(torch.arange(len(responses), device=batch.num_tokens_N.device))
    learned_nt = rows.response_mask_NT
    seen = {
        name: outputs[name][: len(responses), : learned_nt.shape[1]]
        for name in ("logprob_NT", "old_logprob_NT", "entropy_NT", "teacher_logprob_NT")
        if name in outputs
    }
    weighed_nt = policy_mask(rows, module.objective.off_policy.policy_coef)
    weight_nt = token_weights(module, seen, rows).masked_fill(~weighed_nt, torch.nan)
    found = []
    for row, (first, response) in enumerate(responses):
        characters = token_characters(tokenizer, response.token_ids, response.text)
        values: dict[str, list[Any]] = {} if characters is None else {
            "token_characters": characters
        }  # fmt: skip
        span = slice(first, first + len(response.token_ids))
        if values and learned_nt[row, span].any():
            values["logprobs"] = rounded(seen["logprob_NT"][row, span])
            values["weights"] = rounded(weight_nt[row, span])
        found.append(values)
    return found


def token_characters(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], text: str
) -> list[int] | None:
    """Characters of `text` that each token adds; 0 where one only begins a character.

    None where the tokens do not spell the text, or the tokenizer cannot decode one by one.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not token_ids:
        return None
    stream = DecodeStream(skip_special_tokens=False)
    pieces = [stream.step(backend, token) or "" for token in token_ids]
    spelled = "".join(pieces)
    # Longer by the end of the turn, which is not part of a text, or shorter by a character that
    # the limit cut off, which is there as a replacement.
    if not spelled.startswith(text) and not text.startswith(spelled):
        return None
    ends = [min(end, len(text)) for end in accumulate(map(len, pieces))]
    ends[-1] = len(text)
    return [end - start for start, end in pairwise([0, *ends])]


def rounded(value_T: Tensor) -> list[float | None]:
    """As JSON has them; NaN is null."""
    return [
        None if value != value else round(value, DECIMALS) for value in value_T.float().tolist()
    ]
