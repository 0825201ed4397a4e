"""Where metrics go beside metrics.jsonl: loggers by name, functions of `(run_dir, purge_step)`.

A package is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from luffy_pl import registry
from luffy_pl.errors import ConfigError, first_line
from luffy_pl.process.files import storage_error
from luffy_pl.registry import register
from luffy_pl.training.jsonl_logger import JsonlLogger
from luffy_pl.training.tensorboard_logger import EventLogger

log = logging.getLogger(__name__)

WHERE = "loggers"
PACKAGES = ("tensorboard", "wandb", "mlflow", "trackio")
"""Built-in loggers that are called after the package they need."""
PROJECT = "luffy-pl"


def check_loggers(names: Sequence[str]) -> None:
    """Raise a ConfigError for one that nobody has, or whose package is not installed."""
    for name in names:
        registry.check("logger", name, where=WHERE)
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise ConfigError(
                WHERE,
                f"needs the package {name}, which is not installed",
                value=name,
                fix=f"pip install {name}, or leave it out: metrics.jsonl is always written",
            )


def build_loggers(
    names: Sequence[str], run_dir: Path, *, purge_step: int | None = None
) -> list[Logger]:
    """Those of `names`, then metrics.jsonl; all of them keep their files in `run_dir`.

    Project and address of a server are the environment's, as the packages document it:
    WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID.

    Args:
        purge_step: TensorBoard hides what an earlier start wrote from here on.
    """
    makers = [registry.find("logger", name, where=WHERE) for name in names]
    made = [make(run_dir, purge_step) for make in makers]
    for name, logger in zip(names, made, strict=True):
        if not isinstance(logger, Logger):
            what, fix = f"{name} returns no logger", "return a Logger of Lightning"
            raise ConfigError(WHERE, what, value=logger, fix=fix)
    made = [bears_disk_errors(logger) for logger in made]
    return [*made, JsonlLogger(str(run_dir / "metrics.jsonl"))]


def bears_disk_errors(logger: Logger) -> Logger:
    """The logger, whose methods drop what they cannot write: metrics.jsonl has it too."""
    refused = 0

    def bears(method: Callable[..., None]) -> Callable[..., None]:
        @wraps(method)
        def attempt(*args: Any, **options: Any) -> None:
            nonlocal refused
            try:
                method(*args, **options)
            except Exception as error:
                if storage_error(error) is None:
                    raise
                refused += 1
                if refused in (1, 10, 100, 1000):
                    log.warning(
                        "logger %s cannot write (%s), %d times so far; metrics.jsonl has it all",
                        logger.name,
                        first_line(error),
                        refused,
                    )

        return attempt

    for name in ("log_metrics", "log_hyperparams", "save", "finalize"):
        setattr(logger, name, bears(getattr(logger, name)))
    return logger


@register("logger", "tensorboard")
def tensorboard(run_dir: Path, purge_step: int | None) -> Logger:
    """Event files in the run's folder."""
    return EventLogger(save_dir=str(run_dir), name="tb", version="", purge_step=purge_step)


@register("logger", "wandb")
def wandb(run_dir: Path, purge_step: int | None) -> Logger:
    """Weights and Biases."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return WandbLogger(name=run_dir.name, save_dir=str(run_dir))


@register("logger", "mlflow")
def mlflow(run_dir: Path, purge_step: int | None) -> Logger:
    """MLflow."""
    return MLFlowLogger(
        experiment_name=PROJECT, run_name=run_dir.name, save_dir=str(run_dir / "mlflow")
    )


@register("logger", "trackio")
def trackio(run_dir: Path, purge_step: int | None) -> Logger:
    """Trackio; a resumed run goes on in it."""
    return TrackioLogger(run_dir.name)


class TrackioLogger(Logger):
    """Trackio, which Lightning has no logger for."""

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self.run: Any = None

    @property
    def name(self) -> str:
        """Name of the logger."""
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
