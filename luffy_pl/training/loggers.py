"""Where metrics go beside metrics.jsonl, by name; a package is imported when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from luffy_pl.errors import ConfigError
from luffy_pl.training.jsonl_logger import JsonlLogger

LoggerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
PROJECT = "luffy-pl"


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Raise a ConfigError for one whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                "loggers",
                f"needs the package {name}, which is not installed",
                value=name,
                fix=f"pip install {name}, or leave it out: metrics.jsonl is always written",
            )


def build_loggers(
    names: Sequence[LoggerName], run_dir: Path, *, purge_step: int | None = None
) -> list[Logger]:
    """Those of `names`, then metrics.jsonl; all of them keep their files in `run_dir`.

    Project and address of a server are the environment's, as the packages document it:
    WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID.

    Args:
        purge_step: TensorBoard hides what an earlier start wrote from here on.
    """
    made = [build_logger(name, run_dir, purge_step=purge_step) for name in names]
    return [*made, JsonlLogger(str(run_dir / "metrics.jsonl"))]


def build_logger(name: LoggerName, run_dir: Path, *, purge_step: int | None) -> Logger:
    """One of them; a resumed run goes on in it as far as its package can."""
    if name == "wandb":
        run_dir.mkdir(parents=True, exist_ok=True)
        return WandbLogger(name=run_dir.name, save_dir=str(run_dir))
    if name == "mlflow":
        return MLFlowLogger(
            experiment_name=PROJECT, run_name=run_dir.name, save_dir=str(run_dir / "mlflow")
        )
    if name == "trackio":
        return TrackioLogger(run_dir.name)
    return TensorBoardLogger(save_dir=str(run_dir), name="tb", version="", purge_step=purge_step)


class TrackioLogger(Logger):
    """Trackio, which Lightning has no logger for."""

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self.run: Any = None

    @property
    def name(self) -> str:
        """Of the logger."""
        return "trackio"

    @property
    def version(self) -> str:
        """The run."""
        return self.run_name

    @property
    def trackio(self) -> Any:
        """The module, its run started."""
        module = importlib.import_module("trackio")
        if self.run is None:
            self.run = module.init(project=PROJECT, name=self.run_name, resume="allow")
        return module

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One line."""
        self.trackio.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Such as the name of an ablation, as settings of the run."""
        config = params if isinstance(params, dict) else vars(params)
        _ = self.trackio
        self.run.config.update(config)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send what is left."""
        if self.run is not None:
            self.trackio.finish()
            self.run = None
