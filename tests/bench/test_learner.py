"""The bench trains what it says it trains."""

import argparse
import json

import pytest
import torch

from luffy_pl.bench.workload import draw_tokens, make_model

ARGUMENTS = {
    "vocab": 500,
    "hidden": 32,
    "layers": 1,
    "prompts": 1,
    "prompt_len": 64,
    "max_len": 512,
    "micro_rows": 2,
    "steps": 1,
    "seed": 0,
    "threads": 1,
}


def plain_step(model, args):
    """Loss and gradient norm from dense logits, a row at a time; GRPO's advantage, token mean."""
    [prompt], responses = draw_tokens(args)
    reward_N = torch.tensor([float(sum(tokens) % 2) for tokens in responses])
    advantage_N = (reward_N - reward_N.mean()) / (reward_N.std() + 1e-6)
    loss = torch.zeros(())
    for advantage, response in zip(advantage_N, responses, strict=True):
        ids_1L = torch.tensor([prompt + response])
        logprob_TV = model(input_ids=ids_1L).logits[0, :-1].log_softmax(-1)
        logprob_T = logprob_TV.gather(1, ids_1L[0, 1:, None])[len(prompt) - 1 :, 0]
        ratio_T = (logprob_T - logprob_T.detach()).exp()
        loss = loss - (advantage * ratio_T).sum() / sum(map(len, responses))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.item(), torch.stack([g.norm() for g in gradients]).norm().item()


def test_the_bench_against_dense_logits(command_line):
    args = argparse.Namespace(**ARGUMENTS)
    options = [
        part for name, value in ARGUMENTS.items() for part in (f"--{name.replace('_', '-')}", value)
    ]
    done = command_line("bench", "learner", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [
        "side",
        "real_tokens",
        "step_s",
        "step_cpu_s",
        "tokens_per_s",
        "peak_rss_mib",
        "gemm_fraction",
        "grad_norm",
        "loss",
        "args",
    ]
    assert found["args"] == ARGUMENTS
    [prompt], responses = draw_tokens(args)
    assert found["real_tokens"] == sum(map(len, responses)) + 8 * len(prompt)
    loss, norm = plain_step(make_model(args), args)
    assert len(found["loss"]) == len(found["grad_norm"]) == 2
    assert found["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert found["grad_norm"][0] == pytest.approx(norm, rel=1e-5)
    assert 0 < found["gemm_fraction"] < 1


def test_a_size_of_nothing_is_one_line(command_line):
    done = command_line("bench", "learner", "--prompts", "0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--prompts" in done.stderr
