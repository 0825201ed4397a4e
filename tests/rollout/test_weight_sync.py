"""Weights arrive whole, and if they do not the run stops."""

from types import SimpleNamespace

import pytest
import torch

from luffy_pl.callbacks.weight_sync import WeightSync
from luffy_pl.errors import EngineError
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.records import Prompt
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.rollout.policy_weights import PolicyWeights
from luffy_pl.rollout.probe import MOST_GIVEN, beyond_windows


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
