"""Weights that stay on the host: what moves to the device (here meta), and what does not."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from training.test_gradient_invariance import random_experience, tiny_policy

from luffy_pl.experience.stream import SizedStream
from luffy_pl.policy.offload import OffloadStrategy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.training import ranks
from luffy_pl.training.module import LuffyModule
from luffy_pl.training.settings import OptimizerConfig


class OnMeta(OffloadStrategy):
    root_device = torch.device("meta")


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_buffers_move_and_weights_do_not():
    strategy = OnMeta(1, 1)
    strategy._model = strategy._lightning_module = model = Model()
    strategy.model_to_device()
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}
    assert list(model.state_dict()) == list(Model().state_dict())
    assert model.device.type == "meta"


class Watch(L.Callback):
    """What the optimizer holds when the strategy is set up, and when training begins."""

    def setup(self, trainer, module, stage):
        self.kept = []
        configure = module.configure_optimizers

        def configured():
            built = configure()
            self.kept.append(len(built[0]["optimizer"].state))
            return built

        module.configure_optimizers = configured

    def on_train_start(self, trainer, module):
        self.kept.append(len(module.optimizers().optimizer.state))


def test_moments_are_made_when_lightning_has_moved_what_it_moves(tmp_path):
    module = LuffyModule(PolicyConfig(path="unused"), optimizer=OptimizerConfig(lr=1e-3))
    module.policy = tiny_policy()
    watch = Watch()
    experience = random_experience()
    L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[watch],
    ).fit(module, SizedStream(1, lambda phase: experience))  # fmt: skip
    assert watch.kept == [0, len(list(module.policy.parameters()))]


@pytest.mark.parametrize("kind", [OffloadStrategy, ModelParallelStrategy])
def test_the_strategy_decides_where_weights_are_kept(monkeypatch, kind):
    monkeypatch.setattr(ranks, "meshes", lambda mesh, *, replicas: mesh)
    strategy = kind(1, 1)
    monkeypatch.setattr(kind, "root_device", torch.device("meta"))
    trainer = SimpleNamespace(strategy=strategy, precision="32-true")
    found = ranks.sharding_of(trainer, object(), replicas=1)
    is_offload = kind is OffloadStrategy
    assert (found.on_host, found.compute_dtype) == (is_offload, torch.float32)
    assert found.home.type == ("cpu" if is_offload else "meta")
