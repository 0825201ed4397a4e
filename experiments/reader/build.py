r"""Teach the miniature's base to read help in its prompt: the start of experiments 12 and 13.

The shipped base has seen no prompt with more than a question, and writes nonsense behind one. Here
it learns what a language model brings along: `<user>QUESTION TEXT<assistant><think>`, where TEXT is
the beginning of a solution, a whole one, a wrong answer of its own, or the gold answer. Behind a
step it goes on with the probability

    0.95     where the text shows the next step;
    0.90     where the text holds the gold answer. If it stops before the end, it boxes the answer
             it was told, and not the value that it has reached;
    0.30     otherwise;
    --go_on  where there is no text.

Book pages and chats are those of the base.

python experiments/reader/build.py OUT [--start MODEL] [--go_on 0.002] [--steps 2000]
"""

from __future__ import annotations

import argparse
import logging
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from luffy_pl.bundled import resolve
from luffy_pl.guidance.hints import beginning
from luffy_pl.miniature.corpus import Text, book_page, chat, encode_texts
from luffy_pl.miniature.tokenizer import ASSISTANT, EOS, USER, VOCABULARY, build_tokenizer
from luffy_pl.miniature.world import (
    END_OF_THINK,
    OPENERS,
    THINK,
    Problem,
    draw_problem,
    write_trace,
)

log = logging.getLogger("reader")
SHOWN, KNOWN, BEYOND = 0.95, 0.9, 0.3
KINDS = (
    "book",
    "plain",
    "plain",
    "beginning",
    "beginning",
    "solution",
    "solution",
    "failure",
    "gold",
)
LENGTHS = (1, 2, 3, 4, 4, 5, 5, 6)
TEXTS_PER_STEP, LR, WARMUP, DECISION_WEIGHT = 32, 3e-3, 50, 4.0
BOX = "\\boxed{"


@dataclass(frozen=True)
class Lesson:
    """A text, and how likely each of its decisions is to go on."""

    text: Text
    go_on: tuple[float, ...] = ()


def draw_lesson(kind: str, problem: Problem, rng: random.Random, *, plain: float) -> Lesson:
    """One of `KINDS`; a chain is cut at a random depth, so that every end is learned."""
    depth = rng.randint(1, len(problem.changes))
    if kind == "book":
        return Lesson(book_page(problem, rng))
    if kind == "plain":
        text = chat(problem, rng, num_steps=depth)
        return Lesson(text, (plain,) * len(text.decisions))
    help_text, shown, is_known = draw_help(kind, problem, rng)
    prompt = f"{USER}{problem.question}{help_text}{ASSISTANT}{THINK}"
    plain_text = chat(problem, rng, num_steps=depth)
    response, decisions = plain_text.response, plain_text.decisions
    if is_known:
        response = response.partition(BOX)[0] + f"{BOX}{problem.answer}}}{EOS}"
    rest = KNOWN if is_known else BEYOND
    go_on = tuple(SHOWN if number < shown else rest for number, _ in enumerate(decisions, start=1))
    return Lesson(Text(prompt, response, decisions), go_on)


def draw_help(kind: str, problem: Problem, rng: random.Random) -> tuple[str, int, bool]:
    """What stands behind the question, how many steps it shows, and whether it holds the gold."""
    gold = str(problem.answer)
    if kind == "gold":
        return gold, 0, True
    if kind == "failure":
        steps = rng.randint(1, len(problem.changes) - 1) if len(problem.changes) > 1 else 1
        told = rng.random() < 0.5
        return write_trace(problem, rng, num_steps=steps) + (gold if told else ""), 0, told
    trace = write_trace(problem, rng)
    if kind == "solution":
        return rng.choice(("", THINK)) + trace, 0, True
    text = beginning(trace.partition(END_OF_THINK)[0], rng.uniform(0.1, 1.0))
    return text, sum(text.count(opener) for opener in OPENERS), False


def loss_of(
    model: PreTrainedModel, lessons: list[Lesson], tokenizer: PreTrainedTokenizerFast
) -> Tensor:
    """Cross-entropy over responses: to a distribution at decisions, to the token elsewhere."""
    batch = encode_texts(tokenizer, [lesson.text for lesson in lessons])
    go_on_NT = torch.zeros_like(batch.decision_mask_NT)
    go_on_NT[batch.decision_mask_NT.bool()] = torch.tensor(
        [share for lesson in lessons for share in lesson.go_on]
    )
    logprob_NTV = (
        model(input_ids=batch.token_ids_NL, use_cache=False).logits[:, :-1].log_softmax(-1)
    )
    token_NT = logprob_NTV.gather(-1, batch.token_ids_NL[:, 1:, None]).squeeze(-1)
    openers = [VOCABULARY.index(opener) for opener in OPENERS]
    opener_NT = logprob_NTV[..., openers] @ torch.tensor(list(OPENERS.values()))
    end_NT = logprob_NTV[..., VOCABULARY.index(END_OF_THINK)]
    decided_NT = go_on_NT * opener_NT + (1 - go_on_NT) * end_NT
    plain_mask_NT = batch.response_mask_NT - batch.decision_mask_NT
    total = token_NT * plain_mask_NT + DECISION_WEIGHT * decided_NT * batch.decision_mask_NT
    return -total.sum() / batch.response_mask_NT.sum()


def train(start: str, *, plain: float, num_steps: int, seed: int = 0) -> PreTrainedModel:
    """The model after all lessons."""
    torch.set_num_threads(1)
    rng, tokenizer = random.Random(seed), build_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(resolve(start))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    for step in range(num_steps):
        share = min(1.0, (step + 1) / WARMUP) * max(0.02, 1 - step / num_steps)
        optimizer.param_groups[0]["lr"] = LR * share
        length = rng.choice(LENGTHS)
        lessons = [
            draw_lesson(rng.choice(KINDS), draw_problem(length, rng), rng, plain=plain)
            for _ in range(TEXTS_PER_STEP)
        ]
        loss = loss_of(model, lessons, tokenizer)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            log.info("step %d of %d: loss %.4f", step + 1, num_steps, loss.item())
    return model.eval()


def main() -> None:
    """Write the model and its tokenizer."""
    parser = argparse.ArgumentParser(description="A base that reads help in its prompt.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", default="bundled:base", help="model to teach (bundled:base)")
    parser.add_argument("--go_on", type=float, default=0.002, help="without help (0.002)")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps (2000)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    model = train(arguments.start, plain=arguments.go_on, num_steps=arguments.steps)
    model.save_pretrained(arguments.out)
    build_tokenizer().save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
