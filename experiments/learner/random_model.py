"""A model with random weights whose answers end by themselves, and prompts for it."""

from __future__ import annotations

import json
import math
import random
from argparse import Namespace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from luffy_pl.bench.workload import EOS, FIRST_WORD, make_model

PROMPT_WORDS = 64
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} t3{% endif %}"
)


def write_random_model(folder: Path, *, vocab: int, mean_tokens: int) -> None:
    """Write a Qwen2 of 4 layers whose answers have about `mean_tokens`, and its tokenizer.

    The values of the last layer have a bias, so that every hidden state holds one direction; the
    embedding of EOS, which is also its row of the head, lies along it.
    """
    model = make_model(Namespace(vocab=vocab, hidden=256, layers=4, seed=0)).eval()
    attention = model.model.layers[-1].self_attn
    with torch.no_grad():
        bias = attention.v_proj.bias.normal_()
        of_heads = bias.view(model.config.num_key_value_heads, -1)
        repeated = of_heads.repeat_interleave(2, dim=0).flatten()
        direction = attention.o_proj.weight @ repeated
        ids = torch.randint(FIRST_WORD, vocab, (8, PROMPT_WORDS))
        hidden = model.model(input_ids=ids).last_hidden_state
        others = (hidden @ model.lm_head.weight.T).logsumexp(-1).mean()
        along = (hidden @ direction).mean()
        # P(EOS) = 1 / mean_tokens on average.
        model.lm_head.weight[EOS] = direction * (others - math.log(mean_tokens)) / along
    model.save_pretrained(folder)
    words = Tokenizer(
        models.WordLevel({f"t{number}": number for number in range(vocab)}, unk_token="t2")
    )
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="t0", eos_token="t1", unk_token="t2", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def write_prompts(path: Path, *, vocab: int, num_prompts: int) -> None:
    """Random words, and as gold the beginning of about one word in 300."""
    draw = random.Random(0)
    lines = []
    for number in range(num_prompts):
        words = [f"t{draw.randrange(FIRST_WORD, vocab)}" for _ in range(PROMPT_WORDS)]
        lines.append(json.dumps({"prompt": " ".join(words), "gold": f"t{50 + number % 50}"}))
    path.write_text("\n".join(lines) + "\n")
