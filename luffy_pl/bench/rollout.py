"""Answers of the miniature model by vLLM: as a run asks for them, and by `LLM.generate`."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from luffy_pl.bench.machine import median_seconds
from luffy_pl.bundled import resolve
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.vllm_engine import VllmEngine

GROUP_SIZE = 8
FIRST_WORD, WORDS = 4, 12


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Tokens per CPU second of the two, the same requests in turns; ratio: ours over plain."""
    longest = args.prompt_len + args.max_len
    config = EngineConfig(kind="vllm", max_model_len=longest)
    engine = VllmEngine(resolve("bundled:base"), config, stop_token_ids=[])
    llm = engine._llm  # the same engine, asked plainly
    generator = torch.Generator().manual_seed(0)
    prompts = [
        (torch.randint(WORDS, (args.prompt_len,), generator=generator) + FIRST_WORD).tolist()
        for _ in range(args.prompts)
    ]
    sampling = Sampling(temperature=1.0)
    requests = [
        Request(
            tuple(prompt),
            tuple(number * GROUP_SIZE + sample for sample in range(GROUP_SIZE)),
            args.max_len,
        )
        for number, prompt in enumerate(prompts)
    ]
    asked = [
        (
            {"prompt_token_ids": list(request.token_ids)},
            engine._params(sampling, seed, max_tokens=request.max_tokens),
        )
        for request in requests
        for seed in request.seeds
    ]
    counts: list[int] = []

    def ours() -> None:
        llm.reset_prefix_cache()
        answers = engine.generate(requests, sampling=sampling)
        counts.append(sum(len(one.token_ids) for group in answers for one in group))

    def plain() -> None:
        llm.reset_prefix_cache()
        inputs, params = zip(*asked, strict=True)
        found = llm.generate(list(inputs), list(params), use_tqdm=False)
        counts.append(sum(len(one.outputs[0].token_ids) for one in found))

    ours_cpu_s, _ = median_seconds(ours, steps=args.steps)
    plain_cpu_s, _ = median_seconds(plain, steps=args.steps)
    [tokens] = set(counts)
    return {
        "bench": "rollout",
        "tokens": tokens,
        "ours_cpu_s": ours_cpu_s,
        "plain_cpu_s": plain_cpu_s,
        "tokens_per_cpu_s": tokens / ours_cpu_s,
        "ratio": plain_cpu_s / ours_cpu_s,
    }
