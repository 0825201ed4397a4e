import dataclasses
import logging
import math
import random
from types import SimpleNamespace

import pytest
import torch

from luffy_pl.errors import ModelError
from luffy_pl.miniature import base_model
from luffy_pl.miniature.base_model import (
    BaseRecipe,
    base_loss,
    train_base,
    train_base_past_gate,
)
from luffy_pl.miniature.corpus import (
    LONGEST_CHAIN,
    Text,
    chat,
    chat_prompt,
    decision_target,
    draw_texts,
    encode_texts,
)
from luffy_pl.miniature.gate import BaseFigures
from luffy_pl.miniature.tokenizer import VOCABULARY, build_tokenizer
from luffy_pl.miniature.world import OPENERS, Problem
from luffy_pl.miniature.worlds import QUICKSTART

TOKENIZER = build_tokenizer()
PROBLEM = Problem(27, (-6, -9, 9, 5))
FEW_STEPS = BaseRecipe(num_steps=4, texts_per_step=8, warmup_steps=1)
GOOD = BaseFigures(
    content={4: 0.99, 5: 0.985},
    largest_go_on={4: 0.0035, 5: 0.004},
    accuracy={1: 1.0, 2: 0.01, 3: 0.0, 4: 0.0, 5: 0.0, 6: 0.0},
)


@pytest.mark.parametrize(("num_steps", "num_decisions"), [(1, 1), (3, 3), (4, 3)])
def test_decisions_stand_between_steps(num_steps, num_decisions):
    text = chat(PROBLEM, random.Random(0), num_steps=num_steps)
    batch = encode_texts(TOKENIZER, [text])
    decided = batch.token_ids_NL[0, 1:][batch.decision_mask_NT[0].bool()].tolist()
    tokens = [VOCABULARY[number] for number in decided]
    assert len(tokens) == num_decisions
    # Going on but for the last decision; after the whole chain there is none left to take.
    assert all(token in OPENERS for token in tokens[: num_steps - 1])
    assert (tokens[-1] == "</think>") == (num_steps < 4)


def test_padding_is_neither_response_nor_decision():
    short, long = Text("<user>1", "2<eos>"), Text("<user>1", "23+4<eos>", decisions=(2,))
    batch = encode_texts(TOKENIZER, [short, long])
    assert batch.response_mask_NT.tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]]
    assert batch.decision_mask_NT.tolist() == [[0] * 6, [0, 0, 0, 1, 0, 0]]
    assert batch.token_ids_NL[0].tolist()[4:] == [0, 0, 0]


def test_texts_of_a_batch_are_books_and_chats_of_one_length():
    texts = draw_texts(64, random.Random(0))
    assert {text.prompt.partition(">")[0] for text in texts} == {"<book", "<user"}
    assert len({len(TOKENIZER.encode(text.prompt)) for text in texts}) == 1
    assert all(not text.decisions for text in texts if text.prompt.startswith("<book>"))


def test_prompts_are_what_the_chat_template_renders():
    message = {"role": "user", "content": PROBLEM.question}
    assert chat_prompt(PROBLEM) == TOKENIZER.apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True
    )


def test_decision_target_by_hand():
    target_V = decision_target(0.01)
    named = {VOCABULARY[k]: p for k, p in enumerate(target_V.tolist()) if p > 0}
    assert named == pytest.approx(
        {"</think>": 0.99, "so": 0.006, "then": 0.002, "now": 0.001, "next": 0.001}
    )


def test_loss_by_hand():
    # Uniform over 27 tokens, so that token and target alike cost log 27. Of 5 + 2 response
    # tokens one is a decision of weight 4: (6 + 4) / 7 of log 27.
    texts = [Text("<user>1", "23+4<eos>", decisions=(2,)), Text("<user>1", "2<eos>")]
    batch = encode_texts(TOKENIZER, texts)
    logits = torch.zeros(*batch.token_ids_NL.shape, 27)
    loss = base_loss(
        lambda **_: SimpleNamespace(logits=logits),
        batch,
        target_V=decision_target(0.002),
        decision_weight=4.0,
    )
    assert loss.item() == pytest.approx(10 / 7 * math.log(27), rel=1e-6)


def test_learning_rate_by_hand():
    recipe = BaseRecipe(num_steps=1000, warmup_steps=50, final_lr_share=0.02)
    assert recipe.lr_share(0) == pytest.approx(1 / 50)
    assert recipe.lr_share(99) == pytest.approx(1 - 99 / 1000)
    assert recipe.lr_share(999) == pytest.approx(0.02)


def test_training_lowers_the_loss(caplog):
    recipe = dataclasses.replace(FEW_STEPS, num_steps=100)
    with caplog.at_level(logging.INFO, logger=base_model.__name__):
        train_base(recipe, tokenizer=TOKENIZER, seed=0)
    (report,) = caplog.messages
    assert report.startswith("base step 100 of 100")
    assert float(report.rpartition(" ")[2]) < 2  # a little above log 27 = 3.3 at the start


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (
        train_base(FEW_STEPS, tokenizer=TOKENIZER, seed=seed) for seed in (0, 0, 1)
    )
    same = [torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_base(dataclasses.replace(FEW_STEPS, num_steps=1), tokenizer=TOKENIZER, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_an_untrained_base_misses_the_gate(caplog):
    with pytest.raises(ModelError, match=r"2 seeds missed the gate.*content of 4 steps"):
        train_base_past_gate(FEW_STEPS, seed=7, max_attempts=2)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [message.partition(" misses")[0] for message in warnings] == [
        "base of seed 7",
        "base of seed 8",
    ]


def test_a_miss_is_followed_by_the_next_seed():
    bad = dataclasses.replace(GOOD, content={4: 0.5, 5: 0.5})
    measured = iter([bad, GOOD])
    world = dataclasses.replace(QUICKSTART, measure_base=lambda *_: next(measured))
    base = train_base_past_gate(FEW_STEPS, seed=3, world=world)
    assert base.seed == 4
    assert base.figures == GOOD


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"content": {4: 0.979, 5: 1.0}}, "content of 4 steps 0.979"),
        ({"largest_go_on": {4: 0.001, 5: 0.005}}, "goes on with 0.0050 in 5 steps"),
        ({"accuracy": GOOD.accuracy | {1: 0.99}}, "accuracy on one change 0.990"),
        ({"accuracy": GOOD.accuracy | {3: 0.01}}, "accuracy on 3 changes 0.010"),
    ],
)
def test_each_bound_of_the_gate(change, failure):
    assert GOOD.failures() == []
    (found,) = dataclasses.replace(GOOD, **change).failures()
    assert found.startswith(failure)


def test_no_chain_of_the_corpus_is_longer_than_the_context():
    longest = TOKENIZER.encode(chat_prompt(Problem(50, (2,) * LONGEST_CHAIN)))
    assert len(longest) + 8 * LONGEST_CHAIN + 6 <= TOKENIZER.model_max_length
