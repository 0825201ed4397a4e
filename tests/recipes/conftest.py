"""A recipe as its files compose it: conf/quickstart.yaml, then the recipe."""

import functools
from types import SimpleNamespace

import pytest
from lightning.pytorch.cli import LightningArgumentParser

from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.run.command import LINKS
from luffy_pl.training.module import LuffyModule


@functools.cache
def composed(*files):
    """The records of `model` and `data` after all files, as the classes get them."""
    parser = LightningArgumentParser(parser_mode="omegaconf", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_lightning_class_args(LuffyModule, "model")
    parser.add_lightning_class_args(LuffyDataModule, "data")
    for name in ("trainer", "entropy", "evaluation", "summary", "checkpoint"):
        parser.add_argument(f"--{name}", type=dict)
    for name in ("run_dir", "seed_everything", "cpu_threads"):
        parser.add_argument(f"--{name}")
    for (source, target), compute in LINKS.items():
        if source.startswith(("model.", "data.")):
            parser.link_arguments(source, target, compute_fn=compute)
    config = parser.parse_args([arg for file in files for arg in ("--config", file)])
    made = parser.instantiate(config)
    return SimpleNamespace(module=made.model, data=made.data)


@pytest.fixture
def recipe():
    def compose(name):
        return composed("conf/quickstart.yaml", f"conf/recipe/{name}.yaml")

    return compose
