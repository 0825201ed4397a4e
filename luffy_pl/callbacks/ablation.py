"""One named change of the method, and the proof that it is only one.

The change is made where the configuration is composed, so that types, bounds, links between
sections and cross-checks see it; this callback carries its name through the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import lightning as L

from luffy_pl.errors import ConfigError
from luffy_pl.training.module import LuffyModule

Leaf = bool | int | float | str | list[float] | None
ROOTS = ("model.objective.", "data.rollout.", "data.advantage.")


class Ablation(L.Callback):
    """Tags logs and checkpoints with the change that `luffy-pl` made.

    Args:
        name: what the ablation is called; null runs the method as configured.
        leaf: dotted field under `model.objective`, `data.rollout` or `data.advantage`.
        value: what it becomes.
    """

    def __init__(
        self, name: str | None = None, leaf: str | None = None, value: Leaf = None
    ) -> None:
        self.name, self.leaf, self.value = name, leaf, value
        self.is_training = False

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """Name the ablation in every log of a training run."""
        self.is_training = stage == "fit"
        if self.name is not None and self.is_training:
            for logger in trainer.loggers:
                logger.log_hyperparams({"ablation": self.name, str(self.leaf): self.value})

    def state_dict(self) -> dict[str, Any]:
        """Name the ablation in a checkpoint."""
        return {"name": self.name, "leaf": self.leaf, "value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A run continues with the method it began with; any checkpoint can be evaluated."""
        if self.is_training and state != self.state_dict():
            raise ConfigError(
                "ablation",
                f"the checkpoint was trained with {state['name']}",
                value=self.name,
                fix="resume with the same ablation",
            )


def check_leaf(name: str | None, leaf: str | None) -> None:
    """Refuse an ablation that is not one named field of the method."""
    if name is None or leaf is None:
        raise ConfigError(
            "ablation", "name and leaf belong together", value=(name, leaf), fix="set both"
        )
    if not leaf.startswith(ROOTS):
        raise ConfigError(
            "ablation.leaf",
            "is not a field of model.objective, data.rollout or data.advantage",
            value=leaf,
            fix="give the dotted path of one setting",
        )


def check_one_leaf(
    before: Mapping[str, Any], after: Mapping[str, Any], *, leaf: str, derived: Set[str]
) -> None:
    """Prove that two flat configurations differ in `leaf`, and else only in what follows from it.

    Args:
        derived: keys that are computed from others.
    """
    different = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if different - derived != {leaf}:
        raise ConfigError(
            "ablation.value",
            f"changes {len(different - derived)} settings instead of {leaf} alone",
            value=after.get(leaf),
            fix="choose a value that differs, or correct the configuration it is laid over",
        )
