"""Every engine keeps the same promises: its answers, and weights that arrive whole or stop the run.

One file, so that one process starts each engine once.
"""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from luffy_pl.callbacks.weight_sync import WeightSync
from luffy_pl.errors import EngineError
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.process.interrupt import Stopped
from luffy_pl.records import Prompt
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.hf_engine import keep_likely
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.probe import MOST_GIVEN, beyond_windows

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


class Strategy:
    def reduce(self, tensor, reduce_op):
        return tensor

    def barrier(self):
        pass


@pytest.fixture
def run(engine, policy):
    """A trainer, a module and a data module as far as the callback looks at them."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    prompt = Prompt(id="0", text="", token_ids=(5, 9, 17, 21, 13), ground_truth="")
    data = SimpleNamespace(
        engine=engine,
        engine_config=EngineConfig(),
        probe_prompt=lambda: prompt,
        rollout=SimpleNamespace(temperature=1.0, overlap=None),
        wait_for_rollouts=lambda: None,
    )
    module = SimpleNamespace(
        policy=policy, policy_config=PolicyConfig("base"), phases_trained=3, device="cpu"
    )
    trainer = SimpleNamespace(datamodule=data, strategy=Strategy(), loggers=[], callback_metrics={})
    return trainer, module


def test_changed_weights_arrive(run):
    trainer, module = run
    WeightSync().sync(trainer, module)
    assert trainer.callback_metrics["sync/logprob_gap_nats"] < 1e-4
    assert trainer.datamodule.engine.policy_version == 3


def test_adapters_arrive_merged(run, base_path):
    trainer, module = run
    module.policy_config = PolicyConfig(base_path, lora=LoraConfig(rank=4, alpha=8.0))
    module.policy = load_policy(module.policy_config, base_path).eval()
    with torch.no_grad():
        for weight in module.policy.trained_weights():
            weight += 0.1 * torch.randn_like(weight)
    WeightSync().sync(trainer, module)
    assert trainer.callback_metrics["sync/logprob_gap_nats"] < 1e-4
    # Not because adapters change nothing: another factor is seen.
    module.policy_config = PolicyConfig(base_path, lora=LoraConfig(rank=4, alpha=4.0))
    with pytest.raises(EngineError, match="disagree by"):
        WeightSync().sync(trainer, module)


@pytest.fixture
def packed(vllm, monkeypatch):
    """Shapes of the matrices that vLLM puts in the order of its kernels."""
    from vllm import _custom_ops

    shapes, pack = [], _custom_ops.create_onednn_mm
    monkeypatch.setattr(
        _custom_ops,
        "create_onednn_mm",
        lambda weight, *more: (shapes.append(tuple(weight.t().shape)), pack(weight, *more))[1],
    )
    return shapes


@pytest.mark.parametrize("engine", ["vllm"], indirect=True)
def test_each_matrix_is_packed_once(run, packed):
    """The tied one as a head, and not as the embedding."""
    trainer, module = run
    config = module.policy.language_model.config
    WeightSync().sync(trainer, module)
    assert len(packed) == 4 * config.num_hidden_layers + 1
    assert [rows for rows, _ in packed].count(64) == 1 + 2 * config.num_hidden_layers


@pytest.mark.parametrize("engine", ["vllm"], indirect=True)
def test_beside_adapters_only_layers_that_have_one_are_packed_again(run, packed, base_path):
    trainer, module = run
    lora = LoraConfig(rank=4, alpha=8.0, target_modules=("v_proj", "down_proj"))
    module.policy_config = PolicyConfig(base_path, lora=lora)
    module.policy = load_policy(module.policy_config, base_path).eval()
    WeightSync().sync(trainer, module)
    packed.clear()
    with torch.no_grad():
        for weight in module.policy.trained_weights():
            weight += 0.1 * torch.randn_like(weight)
    WeightSync().sync(trainer, module)
    assert trainer.callback_metrics["sync/logprob_gap_nats"] < 1e-4
    assert len(packed) == 2 * module.policy.language_model.config.num_hidden_layers


@pytest.mark.case(32)
def test_a_stale_head_stops_the_run(run, engine, monkeypatch):
    """The tied head is left out, as iterating over named_parameters would."""
    trainer, module = run
    load = engine.load_weights

    def without_head(weights, *, policy_version):
        kept = dict(weights)
        if type(engine).__name__ == "HfEngine":
            kept["lm_head.weight"] = engine.model.lm_head.weight.detach().clone()
            kept["model.embed_tokens.weight"] = kept["lm_head.weight"]
        else:
            del kept["lm_head.weight"]
        load(PolicyWeights(kept, prefix=""), policy_version=policy_version)

    monkeypatch.setattr(engine, "load_weights", without_head)
    with pytest.raises(EngineError, match=r"disagree by .* nats after a sync") as stopped:
        WeightSync().sync(trainer, module)
    causes = stopped.value.fix
    assert all(one in causes for one in ("weights", "logits", "windows", "rounding"))
    assert "0.5" not in causes


@pytest.mark.parametrize(
    ("windows", "max_model_len", "length"),
    [({2}, 96, 5), ({16}, 96, 16), ({4, 16}, None, 16), ({64}, 40, 32), ({4096}, None, MOST_GIVEN)],
)
def test_the_probe_begins_before_any_window(windows, max_model_len, length):
    found = beyond_windows((5, 9, 17, 21, 13), windows, max_model_len=max_model_len)
    assert len(found) == length
    assert found == ((5, 9, 17, 21, 13) * 64)[:length]


def test_a_nan_gap_stops_the_run(run, monkeypatch):
    trainer, module = run
    sync = WeightSync()
    monkeypatch.setattr(sync, "probe", lambda module, data: float("nan"))
    with pytest.raises(EngineError):
        sync.sync(trainer, module)


def test_tied_weights_are_repeated(policy):
    names = [name for name, _ in PolicyWeights(policy.state_dict(), "language_model.")]
    assert "lm_head.weight" in names
    assert "model.embed_tokens.weight" in names
    assert not any(name.startswith("language_model.") for name in names)
