"""What the engine asks of vLLM on a GPU, told by stand-ins with the signatures of vLLM's own."""

from unittest.mock import call, create_autospec

import pytest
import torch

from luffy_pl.errors import EngineError
from luffy_pl.rollout import vllm_engine
from luffy_pl.rollout.engine import EngineConfig, Request, Sampling
from luffy_pl.rollout.policy_weights import PolicyWeights

WEIGHTS = PolicyWeights({"a": torch.zeros(1), "b": torch.zeros(1)}, prefix="")


@pytest.fixture(scope="module")
def signatures(vllm):
    """To look at classes takes seconds; what is called is of each test."""
    from vllm.v1.engine.core_client import InprocClient
    from vllm.v1.engine.llm_engine import LLMEngine

    llm = create_autospec(vllm.LLM, instance=True)
    llm.llm_engine = create_autospec(LLMEngine, instance=True)
    llm.llm_engine.engine_core = create_autospec(InprocClient, instance=True)
    return llm


@pytest.fixture
def make_engine(monkeypatch, signatures):
    def make(sleep_level=1, on_gpu=True):
        llm, arrived = signatures, []
        llm.reset_mock(return_value=True, side_effect=True)
        llm.reset_prefix_cache.return_value = True
        llm.collective_rpc.side_effect = lambda method, kwargs: arrived.extend(
            name for name, _ in kwargs["weights_iterator"]
        )
        llm.arrived = arrived
        monkeypatch.setattr(vllm_engine, "start_llm", lambda path, config: llm)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
        config = EngineConfig(kind="vllm", sleep_level=sleep_level)
        engine = vllm_engine.VllmEngine("x", config, stop_token_ids=[1])
        return engine, llm

    return make


def asked(llm):
    """Names of what was called, with what matters of its arguments."""
    return [
        (name, *kwargs.values()) if name in ("sleep", "wake_up") else name
        for name, _, kwargs in llm.mock_calls
    ]


@pytest.mark.parametrize("level", [1, 2])
def test_weights_wake_before_the_cache(make_engine, level):
    engine, llm = make_engine(level)
    engine.sleep()
    engine.load_weights(WEIGHTS, policy_version=4)
    assert asked(llm) == [
        ("sleep", level),
        ("wake_up", ["weights"]),
        "collective_rpc",
        ("wake_up", ["kv_cache"]),
        "reset_prefix_cache",
    ]
    assert llm.arrived == ["a", "b"]
    assert engine.policy_version == 4


def test_an_engine_that_is_awake_is_not_woken(make_engine):
    engine, llm = make_engine(sleep_level=1)
    engine.load_weights(WEIGHTS, policy_version=0)
    assert asked(llm) == ["collective_rpc", "reset_prefix_cache"]


@pytest.mark.parametrize(("sleep_level", "on_gpu"), [(0, True), (2, False)])
def test_nothing_sleeps_where_it_is_off_or_on_a_cpu(make_engine, sleep_level, on_gpu):
    engine, llm = make_engine(sleep_level, on_gpu)
    engine.sleep()
    assert llm.mock_calls == []


def test_nothing_is_sampled_from_an_engine_that_sleeps(make_engine):
    """At level 2 its weights are whatever lies there."""
    engine, llm = make_engine(sleep_level=2)
    llm.llm_engine.has_unfinished_requests.return_value = False
    engine.sleep()
    with pytest.raises(EngineError, match="sleeps"):
        engine.generate([Request((5,), (1,), max_tokens=4)], sampling=Sampling())
    assert llm.mock_calls == [call.sleep(level=2)]


def test_prefixes_of_older_weights_stop_the_run(make_engine):
    engine, llm = make_engine(sleep_level=0)
    llm.reset_prefix_cache.return_value = False
    with pytest.raises(EngineError, match="keeps cached prompts of the weights before"):
        engine.load_weights(WEIGHTS, policy_version=4)
    assert engine.policy_version == -1


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_trainers_process_group_outlives_the_engine(make_engine, monkeypatch, is_shared):
    """One that was there before the engine; its own goes with it."""
    gone = []
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda *of: gone.append(of))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: is_shared)
    engine, llm = make_engine(sleep_level=0)
    core = llm.llm_engine.engine_core
    core.shutdown.side_effect = lambda: torch.distributed.destroy_process_group()
    engine.close()
    assert gone == ([] if is_shared else [()])
    core.shutdown.assert_called_once()


def test_an_engine_that_breaks_while_it_is_closed_is_let_go(make_engine):
    engine, llm = make_engine(sleep_level=0)
    llm.llm_engine.engine_core.shutdown.side_effect = RuntimeError("CUDA error")
    with pytest.raises(RuntimeError):
        engine.close()
    assert not hasattr(engine, "_llm")


def test_an_engine_that_does_not_start_says_the_first_problem(monkeypatch):
    class Problems(ValueError):
        def errors(self):
            return [{"msg": "the model is not there"}]

    def start(*_):
        raise Problems("1 validation error for ModelConfig\n  and more")

    monkeypatch.setattr(vllm_engine, "start_llm", start)
    with pytest.raises(EngineError, match="vLLM does not start: the model is not there"):
        vllm_engine.VllmEngine("x", EngineConfig(kind="vllm"), stop_token_ids=[1])
