"""How often a base is right: the part that the gates of both worlds share.

Shapes in this file: N answers, L tokens of prompt and answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from luffy_pl.miniature.tokenizer import EOS

SEED = 0


@torch.inference_mode()
def count_right(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[tuple[str, int]],
    *,
    max_new_tokens: int,
    samples: int | None = None,
) -> list[int]:
    """Right answers to each prompt.

    Args:
        asked: prompts as the chat template renders them, and their answers.
        samples: answers to each prompt at temperature 1, always the same; None for one that is
            greedy.
    """
    drawn = {"do_sample": False} if samples is None else {"do_sample": True, "top_k": 0}
    # Prompts of as many tokens are asked together, so that nothing is padded.
    places_of_length: dict[int, list[int]] = defaultdict(list)
    for place, (prompt, _) in enumerate(asked):
        places_of_length[len(tokenizer.encode(prompt))].append(place)

    right = [0] * len(asked)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for places in places_of_length.values():
            prompts = tokenizer([asked[place][0] for place in places], return_tensors="pt")
            token_ids_NL = model.generate(
                **prompts,
                **drawn,
                max_new_tokens=max_new_tokens,
                num_return_sequences=samples or 1,
            )
            for number, text in enumerate(tokenizer.batch_decode(token_ids_NL)):
                place = places[number // (samples or 1)]
                right[place] += _is_right(text, asked[place][1])
    return right


def _is_right(text: str, answer: int) -> bool:
    boxed = text.partition("\\boxed{")[2].partition("}")[0]
    return f"}}{EOS}" in text and boxed == str(answer)
