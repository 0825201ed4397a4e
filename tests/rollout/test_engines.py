"""Both engines keep the same promises."""

import pytest
import torch
from transformers import AutoTokenizer

from luffy_pl.process.interrupt import Stopped
from luffy_pl.rollout.engine import Request, Sampling
from luffy_pl.rollout.hf_engine import keep_likely

EOS = 1


@pytest.fixture(scope="module")
def prompts(base_path):
    tokenizer = AutoTokenizer.from_pretrained(base_path)
    texts = ["<user>27-6=?<assistant><think>", "<user>41+9-2-8+5=?<assistant><think>"]
    return [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


@pytest.fixture(scope="module")
def decode(base_path):
    tokenizer = AutoTokenizer.from_pretrained(base_path)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def requests(prompts, *seeds, max_tokens=20):
    return [Request(ids, of, max_tokens) for ids, of in zip(prompts, seeds, strict=True)]


def test_greedy_answers_of_the_base(engine, prompts, decode):
    """It can do one step, and gives up after one."""
    asked = requests(prompts, (0,), (0,), max_tokens=48)
    answers = engine.generate(asked, sampling=Sampling(temperature=0.0))
    one_step, gives_up = (decode(samples[0].token_ids) for samples in answers)
    assert one_step == "so27-6=21</think>\\boxed{21}<eos>"
    assert gives_up == "so41+9=50</think>\\boxed{50}<eos>"
    assert answers[0][0].finish_reason == "stop"
    assert answers[0][0].token_ids[-1] == EOS
    assert answers[0][0].logprobs is None


def test_tokens_depend_on_the_seed_and_not_on_the_neighbours(engine, prompts):
    sampling = Sampling(temperature=2.0)
    together = engine.generate(requests(prompts, (1, 2, 1), (1,)), sampling=sampling)
    alone = engine.generate(requests(prompts[:1], (2,)), sampling=sampling)
    first, second, repeated = together[0]
    assert first.token_ids == repeated.token_ids
    assert first.token_ids != second.token_ids
    assert alone[0][0].token_ids == second.token_ids


def test_a_generation_that_is_stopped_leaves_nothing_behind(engine, prompts):
    asked, sampling = requests(prompts, (1, 2), (3, 4)), Sampling(temperature=2.0)
    whole = engine.generate(asked, sampling=sampling)

    def stop(done, total):
        raise Stopped(15)

    with pytest.raises(Stopped):
        engine.generate(asked, sampling=sampling, on_progress=stop)
    seen = []
    again = engine.generate(
        asked, sampling=sampling, on_progress=lambda done, total: seen.append(total)
    )
    assert again == whole
    assert set(seen) == {4}


@pytest.mark.parametrize("engine", ["hf", "vllm"], indirect=True)  # a server streams by itself
def test_a_streamed_answer_is_the_one_that_is_returned(engine, prompts):
    """Whole, cut by `max_tokens`, and after one that was given up."""
    sampling = Sampling(temperature=2.0)
    for asked in requests(prompts, (1,), (2,)) + requests(prompts, (1,), (2,), max_tokens=3):
        given_up = engine.stream(asked, sampling=sampling)
        next(given_up)
        given_up.close()
        streamed = tuple(engine.stream(asked, sampling=sampling))
        assert [[streamed]] == [
            [answer.token_ids for answer in answers]
            for answers in engine.generate([asked], sampling=sampling)
        ]


def test_nothing_asked_is_nothing_answered(engine):
    assert engine.generate([], sampling=Sampling()) == []


def test_a_cut_answer_says_so(engine, prompts):
    asked = requests(prompts[:1], (0,), max_tokens=3)
    [[cut]] = engine.generate(asked, sampling=Sampling(temperature=0.0))
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")


def test_an_answer_ends_where_the_window_is_full(engine, prompts):
    """Of 96 tokens; every engine does the same."""
    long = (prompts[0] * 20)[:93]
    [answers] = engine.generate([Request(long, (1, 2, 3), 48)], sampling=Sampling(temperature=2.0))
    assert all(len(answer.token_ids) <= 3 for answer in answers)
    assert any(len(answer.token_ids) == 3 for answer in answers)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_trainer(engine, policy, prompts, temperature):
    """At the sampling temperature, to float32 accuracy."""
    sampling = Sampling(temperature=temperature, logprobs=True)
    asked = requests(prompts, (3, 4), (5, 6), max_tokens=24)
    answers = engine.generate(asked, sampling=sampling)
    for prompt, samples in zip(prompts, answers, strict=True):
        for sample in samples:
            ids_1L = torch.tensor([prompt + sample.token_ids])
            mask_1T = torch.arange(ids_1L.shape[1] - 1)[None] >= len(prompt) - 1
            logprob_1T, _ = policy(
                ids_1L, mask_1T, num_tokens=[ids_1L.shape[1]], temperature=temperature
            )
            ours = logprob_1T[0, len(prompt) - 1 :]
            torch.testing.assert_close(torch.tensor(sample.logprobs), ours, rtol=0, atol=1e-4)


def test_progress_ends_at_the_total(engine, prompts):
    seen = []
    engine.generate(
        requests(prompts, (0, 1), (2,), max_tokens=4),
        sampling=Sampling(),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (3, 3)


def test_each_answer_is_handed_in_once_as_it_is_returned(engine, prompts):
    seen = {}

    def hand_in(prompt, sample, completion):
        assert (prompt, sample) not in seen
        seen[prompt, sample] = completion

    asked = [Request(prompts[0], (0, 1), max_tokens=20), Request(prompts[1], (2,), max_tokens=5)]
    returned = engine.generate(asked, sampling=Sampling(), on_finished=hand_in)
    assert len(returned[1][0].token_ids) <= 5
    assert [[seen[p, s] for s in range(len(own))] for p, own in enumerate(returned)] == returned
    assert next(iter(seen)) == (1, 0) or type(engine).__name__ == "HfEngine"


def test_more_prompts_than_one_step_of_the_engine_holds(engine, prompts):
    """vLLM takes 4096 tokens a step: splitting the last prompt of one must not hurt a seed."""
    long = [prompts[1] * 3 + (number % 20 + 2,) * (number % 7) for number in range(120)]
    assert sum(map(len, long)) > 5000
    asked = [Request(ids, (number,), max_tokens=2) for number, ids in enumerate(long)]
    answers = engine.generate(asked, sampling=Sampling())
    assert [len(samples) for samples in answers] == [1] * len(long)


def test_top_k_and_top_p_by_hand():
    # p = .5 .3 .15 .05; top-k 2 keeps .5 .3 -> .625 .375; top-p .6 keeps .5 .3 (the first token
    # that reaches .6 stays).
    logprob = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    expected = torch.tensor([[0.625, 0.375, 0.0, 0.0]])
    for limits in ({"top_k": 2, "top_p": 1.0}, {"top_k": -1, "top_p": 0.6}):
        torch.testing.assert_close(keep_likely(logprob, **limits).exp(), expected)
