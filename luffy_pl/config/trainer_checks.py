"""Options of Lightning's trainer that this project decides itself, each with the setting to use.

A run is one pass over its phases with manual optimization, its own evaluation, checkpoints and
loggers. An option that would do nothing here, or stop a run in the midst, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.strategies import StrategyRegistry

from luffy_pl.config.sources import SettingSource
from luffy_pl.errors import ConfigError

PHASES = "set data.rollout.num_phases"
LIMIT = "set limit of the source in data.benchmarks"
EVALUATION = "set evaluation.every_n_phases"
CLIPPING = "set model.optimizer.max_grad_norm"
MOST_PLACES = 1_000_000
"""Devices of a machine, and machines."""
HONOURED = (
    "accelerator", "strategy", "devices", "num_nodes", "precision", "callbacks", "deterministic",
    "benchmark", "inference_mode", "profiler", "plugins", "enable_model_summary",
)  # fmt: skip
REPLACED: dict[str, tuple[tuple[Any, ...], str]] = {
    "logger": ((None,), "set loggers: [tensorboard], or [] for metrics.jsonl alone"),
    "fast_dev_run": ((False,), f"{PHASES}: 1, or use --dry_run"),
    "max_epochs": ((None, 1), f"{PHASES}: a run is one epoch of so many phases"),
    "min_epochs": ((None,), PHASES),
    "max_steps": ((-1,), f"{PHASES}: each has model.optimizer.steps_per_phase steps"),
    "min_steps": ((None,), PHASES),
    "max_time": ((None,), "run it under timeout: SIGTERM saves the last whole phase"),
    "limit_train_batches": ((None,), f"{PHASES}: a batch is a phase"),
    "limit_val_batches": ((None,), LIMIT),
    "limit_test_batches": ((None,), LIMIT),
    "limit_predict_batches": ((None,), LIMIT),
    "overfit_batches": ((0.0,), "set data.train.limit"),
    "val_check_interval": ((None,), EVALUATION),
    "check_val_every_n_epoch": ((1,), EVALUATION),
    "num_sanity_val_steps": ((0,), "set evaluation.before_training"),
    "log_every_n_steps": ((None, 1), "leave it out: every phase is logged"),
    "enable_checkpointing": ((None, True), "set checkpoint.every_n_phases"),
    "enable_progress_bar": ((None, True), "send stderr to a file: bars are lines there"),
    "accumulate_grad_batches": ((1,), "set model.optimizer.micro_batch_tokens"),
    "gradient_clip_val": ((None,), CLIPPING),
    "gradient_clip_algorithm": ((None,), f"{CLIPPING}: it clips the global norm"),
    "use_distributed_sampler": ((True,), "leave it out: prompts are shared among ranks by key"),
    "detect_anomaly": ((False,), "set model.optimizer.non_finite: it names the rows"),
    "barebones": ((False,), "leave it out: loggers: [] and evaluation.every_n_phases: null"),
    "sync_batchnorm": ((False,), "leave it out: language models have none"),
    "reload_dataloaders_every_n_epochs": ((0,), "leave it out: every phase is collected again"),
    "enable_autolog_hparams": ((True,), "leave it out: config.yaml holds every setting"),
    "model_registry": ((None,), "leave it out: luffy-pl export makes a folder to upload"),
}
"""What an option may be, and what to do instead of another value."""
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
NO_SCRIPT = re.compile("spawn|fork|notebook|xla")
"""Strategies that start no process of their own for each rank."""
PRECISIONS = (None, "32", "32-true", "bf16", "bf16-mixed")
BY_PRECISION = {
    "bf16-true": "bfloat16 weights are model.policy.dtype: bfloat16",
    "16-mixed": "float16 needs a gradient scale, which max_grad_norm would clip with the gradient",
    "16-true": "float16 has no room for gradients of this size",
    "64-true": "weights are float32 or bfloat16 (model.policy.dtype)",
}
"""Why a precision cannot be used."""


def check_trainer(config: Any) -> None:
    """Refuse an option that would have no effect, or that no run survives."""
    trainer = config.trainer
    for name, (allowed, fix) in REPLACED.items():
        value = trainer.get(name, allowed[0])
        if not any(value is one or (value == one and type(value) is not bool) for one in allowed):
            raise ConfigError(
                f"trainer.{name}", "is not what decides this here", value=value, fix=fix
            )
    for name in ("optimizer", "lr_scheduler"):
        if config.get(name) is not None:
            raise ConfigError(
                name,
                "cannot be exchanged: a run has AdamW and a warm-up",
                value=config[name].get("class_path"),
                fix="set model.optimizer",
            )
    check_precision(trainer.precision)
    check_places(trainer)


def check_precision(precision: Any) -> None:
    """Refuse what does not train: all but float32, and bfloat16 beside float32 weights."""
    name = None if precision is None else str(precision)
    if name not in PRECISIONS:
        full = {"16": "16-mixed", "64": "64-true"}.get(str(name), str(name))
        raise ConfigError(
            "trainer.precision",
            f"cannot be used: {BY_PRECISION.get(full, 'it is not supported')}",
            value=precision,
            fix="use bf16-mixed or 32-true",
        )


def check_places(trainer: Any) -> None:
    """Refuse kinds of devices and of processes that cannot train, and numbers that are none."""
    if isinstance(trainer.accelerator, str) and trainer.accelerator not in ACCELERATORS:
        raise ConfigError(
            "trainer.accelerator",
            "is not supported",
            value=trainer.accelerator,
            fix=f"use one of {', '.join(ACCELERATORS)}",
        )
    name = trainer.strategy
    is_known = not isinstance(name, str) or name in {
        "auto",
        *StrategyRegistry.available_strategies(),
    }
    if not is_known or (isinstance(name, str) and NO_SCRIPT.search(name)):
        raise ConfigError(
            "trainer.strategy",
            "copies a Python process, which a run does not survive" if is_known else "is unknown",
            value=name,
            fix="use auto, ddp, or a section of conf/hardware",
        )
    if not 1 <= trainer.num_nodes <= MOST_PLACES:
        raise ConfigError(
            "trainer.num_nodes",
            "must be a number of machines",
            value=trainer.num_nodes,
            fix="use 1",
        )
    devices, is_cpu = trainer.devices, trainer.accelerator == "cpu"
    words = devices if isinstance(devices, list) else str(devices).split(",")
    numbers = [str(word).strip() for word in words if str(word).strip()]
    is_list = isinstance(devices, list) or "," in str(devices)
    if is_list:
        is_right = bool(numbers) and all(map(str.isdigit, numbers)) and not is_cpu
    else:
        is_all = str(devices) in ("-1", "auto") and not (is_cpu and str(devices) == "-1")
        is_right = is_all or (str(devices).isdigit() and 0 < int(devices) <= MOST_PLACES)
    if not is_right:
        what = "a number of processes" if is_cpu else "a number, a list of GPUs, -1 or auto for all"
        raise ConfigError(
            "trainer.devices", f"must be {what}", value=devices, fix="use 1, or how many there are"
        )


def check_root(sources: Sequence[SettingSource]) -> None:
    """Refuse a folder beside the one of the run; earlier versions wrote the same into both."""
    for source in sources:
        root = source.values.get("trainer.default_root_dir")
        if root is not None and root != source.values.get("run_dir"):
            raise ConfigError(
                "trainer.default_root_dir",
                "is not what decides where a run writes",
                value=root,
                fix="set run_dir",
            )
