"""A recipe as its files compose it: conf/quickstart.yaml, then the recipe."""

import functools
from types import SimpleNamespace

import pytest
from composing import fit
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.training.module import LuffyModule


@functools.cache
def composed(*files):
    """The objects of `model` and `data` after all files."""
    config = fit(*files)
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(LuffyModule, "model")
    parser.add_lightning_class_args(LuffyDataModule, "data")
    made = parser.instantiate(Namespace(model=config.model, data=config.data))
    return SimpleNamespace(module=made.model, data=made.data)


@pytest.fixture
def recipe():
    def compose(name):
        return composed("conf/quickstart.yaml", f"conf/recipe/{name}.yaml")

    return compose
