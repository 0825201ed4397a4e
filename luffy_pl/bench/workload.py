"""A step's data and its model, both a pure function of the arguments.

Random token ids; many short responses and a few long ones, as reasoning rollouts are. The draws are
those of the script that measures TRL (docs/performance.md), number for number.
"""

from __future__ import annotations

import argparse

import torch
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM

from luffy_pl.records import Group, Prompt, Response, Verdict

GROUP_SIZE = 8
FIRST_WORD, EOS = 4, 1


def draw_tokens(args: argparse.Namespace) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of the prompts and of all responses, which end with EOS."""
    generator = torch.Generator().manual_seed(args.seed)

    def words(count: int) -> list[int]:
        drawn: list[int] = torch.randint(
            FIRST_WORD, args.vocab, (count,), generator=generator
        ).tolist()
        return drawn

    prompts = [words(args.prompt_len) for _ in range(args.prompts)]
    uniform_N = torch.rand(args.prompts * GROUP_SIZE, generator=generator)
    low, high = args.max_len // 16, args.max_len
    lengths = (low * (high / low) ** uniform_N).long().tolist()
    return prompts, [[*words(length - 1), EOS] for length in lengths]


def make_groups(args: argparse.Namespace) -> list[Group]:
    """The responses of each prompt; the reward is the parity of a response's token sum."""
    prompts, responses = draw_tokens(args)
    groups = []
    for number, prompt in enumerate(prompts):
        own = responses[number * GROUP_SIZE : (number + 1) * GROUP_SIZE]
        rewards = tuple(float(sum(tokens) % 2) for tokens in own)
        groups.append(
            Group(
                Prompt(id=str(number), text="", token_ids=tuple(prompt), ground_truth=""),
                tuple(graded(tokens, reward) for tokens, reward in zip(own, rewards, strict=True)),
                rewards,
            )
        )
    return groups


def graded(tokens: list[int], reward: float) -> Response:
    """A rollout of the policy that ended by itself."""
    verdict = Verdict(correct=bool(reward), status="ok", tier="parity", extracted=None, gold="")
    return Response("rollout", "", tuple(tokens), "stop", verdict)


def make_model(args: argparse.Namespace) -> Qwen2ForCausalLM:
    """A Qwen2 in float32 with random weights and a tied head."""
    torch.manual_seed(args.seed)
    config = Qwen2Config(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=2 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        pad_token_id=0,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).float()
