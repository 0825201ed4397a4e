"""Both engines keep the same promises."""

import pytest
import torch
from transformers import AutoTokenizer

from luffy_pl.process.interrupt import Stopped
from luffy_pl.rollout.engine import Sampling
from luffy_pl.rollout.hf_engine import keep_likely

EOS = 1


@pytest.fixture(scope="module")
def prompts(base_path):
    tokenizer = AutoTokenizer.from_pretrained(base_path)
    texts = ["<user>27-6=?<assistant><think>", "<user>41+9-2-8+5=?<assistant><think>"]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.fixture(scope="module")
def decode(base_path):
    tokenizer = AutoTokenizer.from_pretrained(base_path)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def test_greedy_answers_of_the_base(engine, prompts, decode):
    """It can do one step, and gives up after one."""
    sampling = Sampling(max_tokens=48, temperature=0.0)
    answers = engine.generate(prompts, seeds_PS=[[0], [0]], sampling=sampling)
    one_step, gives_up = (decode(samples[0].token_ids) for samples in answers)
    assert one_step == "so27-6=21</think>\\boxed{21}<eos>"
    assert gives_up == "so41+9=50</think>\\boxed{50}<eos>"
    assert answers[0][0].finish_reason == "stop"
    assert answers[0][0].token_ids[-1] == EOS
    assert answers[0][0].logprobs is None


def test_tokens_depend_on_the_seed_and_not_on_the_neighbours(engine, prompts):
    sampling = Sampling(max_tokens=20, temperature=2.0)
    together = engine.generate(prompts, seeds_PS=[[1, 2, 1], [1]], sampling=sampling)
    alone = engine.generate(prompts[:1], seeds_PS=[[2]], sampling=sampling)
    first, second, repeated = together[0]
    assert first.token_ids == repeated.token_ids
    assert first.token_ids != second.token_ids
    assert alone[0][0].token_ids == second.token_ids


def test_a_generation_that_is_stopped_leaves_nothing_behind(engine, prompts):
    sampling = Sampling(max_tokens=20, temperature=2.0)
    asked = {"seeds_PS": [[1, 2], [3, 4]], "sampling": sampling}
    whole = engine.generate(prompts, **asked)

    def stop(done, total):
        raise Stopped(15)

    with pytest.raises(Stopped):
        engine.generate(prompts, **asked, on_progress=stop)
    seen = []
    again = engine.generate(prompts, **asked, on_progress=lambda done, total: seen.append(total))
    assert again == whole
    assert set(seen) == {4}


def test_nothing_asked_is_nothing_answered(engine):
    assert engine.generate([], seeds_PS=[], sampling=Sampling(max_tokens=3)) == []


def test_a_cut_answer_says_so(engine, prompts):
    sampling = Sampling(max_tokens=3, temperature=0.0)
    [[cut]] = engine.generate(prompts[:1], seeds_PS=[[0]], sampling=sampling)
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_trainer(engine, policy, prompts, temperature):
    """At the sampling temperature, to float32 accuracy."""
    sampling = Sampling(max_tokens=24, temperature=temperature, logprobs=True)
    answers = engine.generate(prompts, seeds_PS=[[3, 4], [5, 6]], sampling=sampling)
    for prompt, samples in zip(prompts, answers, strict=True):
        for sample in samples:
            ids_1L = torch.tensor([prompt + list(sample.token_ids)])
            mask_1T = torch.arange(ids_1L.shape[1] - 1)[None] >= len(prompt) - 1
            logprob_1T, _ = policy(
                ids_1L, mask_1T, num_tokens=[ids_1L.shape[1]], temperature=temperature
            )
            ours = logprob_1T[0, len(prompt) - 1 :]
            torch.testing.assert_close(torch.tensor(sample.logprobs), ours, rtol=0, atol=1e-4)


def test_progress_ends_at_the_total(engine, prompts):
    seen = []
    engine.generate(
        prompts,
        seeds_PS=[[0, 1], [2]],
        sampling=Sampling(max_tokens=4),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (3, 3)


def test_each_answer_is_handed_in_once_as_it_is_returned(engine, prompts):
    seen = {}

    def hand_in(prompt, sample, completion):
        assert (prompt, sample) not in seen
        seen[prompt, sample] = completion

    returned = engine.generate(
        prompts,
        seeds_PS=[[0, 1], [2]],
        sampling=Sampling(max_tokens=20),
        max_tokens_P=[20, 5],
        on_finished=hand_in,
    )
    assert [[seen[p, s] for s in range(len(own))] for p, own in enumerate(returned)] == returned
    assert next(iter(seen)) == (1, 0) or type(engine).__name__ == "HfEngine"


def test_more_prompts_than_one_step_of_the_engine_holds(engine, prompts):
    """vLLM takes 4096 tokens a step: splitting the last prompt of one must not hurt a seed."""
    long = [prompts[1] * 3 + [number % 20 + 2] * (number % 7) for number in range(120)]
    assert sum(map(len, long)) > 5000
    seeds_PS = [[number] for number in range(len(long))]
    answers = engine.generate(long, seeds_PS=seeds_PS, sampling=Sampling(max_tokens=2))
    assert [len(samples) for samples in answers] == [1] * len(long)


def test_top_k_and_top_p_by_hand():
    # p = .5 .3 .15 .05; top-k 2 keeps .5 .3 -> .625 .375; top-p .6 keeps .5 .3 (the first token
    # that reaches .6 stays).
    logprob = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    expected = torch.tensor([[0.625, 0.375, 0.0, 0.0]])
    for limits in ({"top_k": 2, "top_p": 1.0}, {"top_k": -1, "top_p": 0.6}):
        torch.testing.assert_close(keep_likely(logprob, **limits).exp(), expected)
