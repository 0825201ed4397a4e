"""What the base is trained on: whole chains from books, and chats that give up early.

The base is to know every step and yet give up after the first. Book pages teach it the steps;
chats show chains cut at a random depth, and at each decision between going on and giving up
the target is a distribution, not a token. Sampled targets would do on average, but leave a few
problems on which the base is sure to go on, and one such problem is enough for on-policy RL.

Shapes in this file: N rows of a batch, L tokens of its longest row, T = L - 1 predictions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from luffy_pl.miniature.tokenizer import ASSISTANT, BOOK, EOS, PAD, USER, VOCABULARY
from luffy_pl.miniature.world import (
    END_OF_THINK,
    OPENERS,
    THINK,
    Problem,
    draw_problem,
    write_trace,
)

# An opener, the running value, a signed digit, the equals sign, the next value.
TOKENS_PER_STEP = 8
LONGEST_CHAIN = 6
BOOK_SHARE = 0.5


@dataclass(frozen=True)
class Text:
    """A prompt, the response that follows it, and the response tokens that are decisions."""

    prompt: str
    response: str
    decisions: tuple[int, ...] = ()


@dataclass(frozen=True)
class TextBatch:
    """Padded texts.

    token_ids_NL: prompt then response, padded on the right.
    response_mask_NT: 1 where the predicted token belongs to the response.
    decision_mask_NT: 1 where it decides between going on and giving up.
    """

    token_ids_NL: Tensor
    response_mask_NT: Tensor
    decision_mask_NT: Tensor


def chat_prompt(problem: Problem) -> str:
    """What the chat template renders, up to the open thought."""
    return f"{USER}{problem.question}{ASSISTANT}{THINK}"


def book_page(problem: Problem, rng: random.Random) -> Text:
    """The whole chain, in a book."""
    prompt = f"{BOOK}{problem.question}{ASSISTANT}{THINK}"
    return Text(prompt, write_trace(problem, rng) + EOS)


def chat(problem: Problem, rng: random.Random, *, num_steps: int) -> Text:
    """A chain that gives up after `num_steps`.

    Behind the last step of the problem there is nothing to decide.
    """
    num_decisions = min(num_steps, len(problem.changes) - 1)
    decisions = tuple(TOKENS_PER_STEP * number for number in range(1, num_decisions + 1))
    response = write_trace(problem, rng, num_steps=num_steps) + EOS
    return Text(chat_prompt(problem), response, decisions)


def draw_texts(num_texts: int, rng: random.Random) -> list[Text]:
    """Book pages and chats over problems of one length, so that little is padded."""
    length = rng.randint(1, LONGEST_CHAIN)
    texts = []
    for _ in range(num_texts):
        problem = draw_problem(length, rng)
        if rng.random() < BOOK_SHARE:
            texts.append(book_page(problem, rng))
        else:
            texts.append(chat(problem, rng, num_steps=rng.randint(1, length)))
    return texts


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> TextBatch:
    """Pad the texts to the longest and mark responses and decisions."""
    prompts = [tokenizer.encode(text.prompt, add_special_tokens=False) for text in texts]
    responses = [tokenizer.encode(text.response, add_special_tokens=False) for text in texts]
    num_tokens = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))

    token_ids_NL = torch.full((len(texts), num_tokens), VOCABULARY.index(PAD))
    response_mask_NT = torch.zeros(len(texts), num_tokens - 1)
    decision_mask_NT = torch.zeros_like(response_mask_NT)
    for row, (text, prompt, response) in enumerate(zip(texts, prompts, responses, strict=True)):
        token_ids_NL[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        first = len(prompt) - 1
        response_mask_NT[row, first : first + len(response)] = 1
        decision_mask_NT[row, [first + number for number in text.decisions]] = 1
    return TextBatch(token_ids_NL, response_mask_NT, decision_mask_NT)


def decision_target(go_on: float) -> Tensor:
    """The distribution over the vocabulary at a decision.

    Args:
        go_on: probability of all openers together; the rest is for the end of the thought.
    """
    target_V = torch.zeros(len(VOCABULARY))
    target_V[VOCABULARY.index(END_OF_THINK)] = 1 - go_on
    for opener, share in OPENERS.items():
        target_V[VOCABULARY.index(opener)] = go_on * share
    return target_V
