"""Is a base what the miniature world needs? Figures, and the bounds they have to keep.

Shapes in this file: N problems, T predictions, K tokens, V vocabulary.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from luffy_pl.miniature.answers import count_right
from luffy_pl.miniature.corpus import TOKENS_PER_STEP, Text, chat_prompt, encode_texts
from luffy_pl.miniature.tokenizer import EOS, VOCABULARY
from luffy_pl.miniature.world import OPENERS, draw_problem, write_trace

NUM_PROBLEMS = 128
LENGTHS = range(1, 7)
# The lengths that are trained on: where the base may neither fail at a step nor go on by itself.
TRAINED_LENGTHS = (4, 5)

MIN_CONTENT = 0.98
MAX_GO_ON = 0.005
# Problems of three changes and more take two decisions in a row: out of reach by luck.
OUT_OF_REACH = range(3, 7)


@dataclass(frozen=True)
class BaseFigures:
    """What a base can do, over `NUM_PROBLEMS` problems of each length.

    content: by length, mean over problems of the joint probability of everything in a chain
        but its openers and its end: does the base know the steps?
    largest_go_on: by length, the largest probability of any opener behind a step that is not
        the last, over problems and steps: will it ever take more than one?
    accuracy: by length, share of greedy answers that are right.
    """

    content: dict[int, float]
    largest_go_on: dict[int, float]
    accuracy: dict[int, float]

    def failures(self) -> list[str]:
        """The bounds this base does not keep, in words; none if it passes."""
        found = []
        for length, content in self.content.items():
            if content < MIN_CONTENT:
                found.append(f"content of {length} steps {content:.3f}, below {MIN_CONTENT}")
        for length, go_on in self.largest_go_on.items():
            if go_on >= MAX_GO_ON:
                found.append(f"goes on with {go_on:.4f} in {length} steps, not below {MAX_GO_ON}")
        if self.accuracy[1] < 1:
            found.append(f"accuracy on one change {self.accuracy[1]:.3f}, below 1")
        for length in OUT_OF_REACH:
            if self.accuracy[length] > 0:
                found.append(f"accuracy on {length} changes {self.accuracy[length]:.3f}, above 0")
        return found


def measure_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> BaseFigures:
    """The figures of a base, always on the same problems."""
    chains = {length: _chain_figures(model, tokenizer, length) for length in TRAINED_LENGTHS}
    return BaseFigures(
        content={length: content for length, (content, _) in chains.items()},
        largest_go_on={length: go_on for length, (_, go_on) in chains.items()},
        accuracy={length: _greedy_accuracy(model, tokenizer, length) for length in LENGTHS},
    )


@torch.inference_mode()
def _chain_figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, length: int
) -> tuple[float, float]:
    """Content and largest probability of going on, along expert chains of one length."""
    rng = random.Random(f"gate, chains of {length}")
    problems = [draw_problem(length, rng) for _ in range(NUM_PROBLEMS)]
    texts = [Text(chat_prompt(p), write_trace(p, rng) + EOS) for p in problems]
    batch = encode_texts(tokenizer, texts)
    prob_NTV = model(input_ids=batch.token_ids_NL).logits[:, :-1].softmax(-1)

    # Prompts of one length have as many tokens, so the choices stand in the same columns.
    first = int(batch.response_mask_NT[0].argmax())
    choices_K = [first + TOKENS_PER_STEP * number for number in range(length + 1)]
    openers = [VOCABULARY.index(opener) for opener in OPENERS]
    go_on_NK = prob_NTV[:, choices_K[1:-1]][..., openers].sum(-1)

    is_content_NT = batch.response_mask_NT.bool()
    is_content_NT[:, choices_K] = False
    prob_NT = prob_NTV.gather(-1, batch.token_ids_NL[:, 1:, None]).squeeze(-1)
    content_N = prob_NT.masked_fill(~is_content_NT, 1.0).prod(-1)
    return content_N.mean().item(), go_on_NK.max().item()


def _greedy_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, length: int
) -> float:
    rng = random.Random(f"gate, answers to {length}")
    problems = [draw_problem(length, rng) for _ in range(NUM_PROBLEMS)]
    asked = [(chat_prompt(p), p.answer) for p in problems]
    max_new_tokens = TOKENS_PER_STEP * (length + 1)
    return sum(count_right(model, tokenizer, asked, max_new_tokens=max_new_tokens)) / NUM_PROBLEMS
