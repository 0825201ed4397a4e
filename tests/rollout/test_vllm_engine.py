"""What the engine asks of vLLM on a GPU, told by a stand-in that writes the order down."""

import pytest
import torch

from luffy_pl.rollout import vllm_engine
from luffy_pl.rollout.engine import EngineConfig


class StandIn:
    """Writes down what it is asked."""

    def __init__(self):
        self.asked = []

    def sleep(self, level):
        self.asked.append(f"sleep {level}")

    def wake_up(self, tags):
        self.asked.append(f"wake {' '.join(tags)}")

    def collective_rpc(self, method, kwargs):
        self.asked.append(f"{method} {len(list(kwargs['weights_iterator']))}")

    def reset_prefix_cache(self):
        self.asked.append("reset_prefix_cache")


@pytest.fixture
def make_engine(monkeypatch):
    def make(sleep_level, on_gpu=True):
        stand_in = StandIn()
        monkeypatch.setattr(vllm_engine, "start_llm", lambda path, config: stand_in)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
        config = EngineConfig(kind="vllm", sleep_level=sleep_level)
        return vllm_engine.VllmEngine("x", config, stop_token_ids=[1]), stand_in

    return make


WEIGHTS = [("a", torch.zeros(1)), ("b", torch.zeros(1))]


def test_weights_wake_before_the_cache(make_engine):
    engine, stand_in = make_engine(sleep_level=1)
    engine.sleep()
    engine.load_weights(WEIGHTS, policy_version=4)
    assert stand_in.asked == [
        "sleep 1",
        "wake weights",
        "reload_weights 2",
        "wake kv_cache",
        "reset_prefix_cache",
    ]
    assert engine.policy_version == 4


def test_an_engine_that_is_awake_is_not_woken(make_engine):
    engine, stand_in = make_engine(sleep_level=1)
    engine.load_weights(WEIGHTS, policy_version=0)
    assert stand_in.asked == ["reload_weights 2", "reset_prefix_cache"]


@pytest.mark.parametrize(("sleep_level", "on_gpu"), [(0, True), (2, False)])
def test_nothing_sleeps_where_it_is_off_or_on_a_cpu(make_engine, sleep_level, on_gpu):
    engine, stand_in = make_engine(sleep_level, on_gpu)
    engine.sleep()
    assert stand_in.asked == []
