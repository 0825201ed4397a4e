"""Transformers as an engine of models that carry a state along, or whose attention sdpa cuts."""

import pytest
import torch
from policy.families import tiny_model
from transformers import GPT2Config, GPT2LMHeadModel

from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.hf_engine import HfEngine

SHORT, LONG = (5, 9, 11), (7, 3, 8, 21, 40, 13, 66, 30, 2)
SAMPLING = Sampling(temperature=1.0, logprobs=True)


@pytest.fixture(
    scope="module",
    params=["qwen3_5_text", "granitemoehybrid", "mamba", "recurrent_gemma", "gemma2", "gpt_oss"],
)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    tiny_model(request.param, vocab_size=96).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def engine(folder):
    return HfEngine(folder, EngineConfig(kind="hf"), stop_token_ids=[1])


def test_samples_have_the_policys_logprobs_whatever_is_beside_them(folder, engine):
    policy = load_policy(PolicyConfig(path=folder), folder).eval()
    asked = [Request(SHORT, (1, 2), 12), Request(LONG, (3, 4), 12)]
    answers = engine.generate(asked, sampling=SAMPLING)
    for request, samples in zip(asked, answers, strict=True):
        alone = [
            engine.generate([Request(request.token_ids, (seed,), 12)], sampling=SAMPLING)[0][0]
            for seed in request.seeds
        ]
        assert [one.token_ids for one in alone] == [one.token_ids for one in samples]
        given = len(request.token_ids)
        for sample in samples:
            ids_1L = torch.tensor([request.token_ids + sample.token_ids])
            mask_1T = torch.arange(ids_1L.shape[1] - 1)[None] >= given - 1
            logprob_1T, _ = policy(ids_1L, mask_1T, num_tokens=[ids_1L.shape[1]], temperature=1.0)
            found = torch.tensor(sample.logprobs)
            torch.testing.assert_close(found, logprob_1T[0, given - 1 :], rtol=0, atol=1e-4)


def test_a_streamed_answer_is_the_one_that_is_returned(engine):
    request = Request(LONG, (3,), 6)
    [[answer]] = engine.generate([request], sampling=Sampling())
    assert tuple(engine.stream(request, sampling=Sampling())) == answer.token_ids


def test_an_answer_that_has_ended_goes_no_further_than_its_window(tmp_path):
    """It stays beside three that go on, with a prompt that nearly fills the table of positions."""
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=96, n_positions=32)
    model = GPT2LMHeadModel(config)
    draws = torch.Generator().manual_seed(0)
    for table in (model.transformer.wte, model.transformer.wpe):
        torch.nn.init.normal_(table.weight, generator=draws)
    model.save_pretrained(tmp_path)
    greedy = Sampling(temperature=0.0)

    def answers(requests, *stop_token_ids):
        options = EngineConfig(kind="hf", max_model_len=32)
        engine = HfEngine(str(tmp_path), options, stop_token_ids=stop_token_ids)
        return [answer for [answer] in engine.generate(requests, sampling=greedy)]

    full, short = Request((5, 9) * 15, (0,), 2), [Request((token,), (0,), 31) for token in range(9)]
    [first], alone = answers([full]), answers(short)
    stop = first.token_ids[0]
    goes_on = [at for at, answer in enumerate(alone) if stop not in answer.token_ids][:3]
    first, *others = answers([full, *(short[at] for at in goes_on)], stop)
    assert (first.token_ids, first.finish_reason) == ((stop,), "stop")
    assert others == [alone[at] for at in goes_on]
    assert len(others) == 3
