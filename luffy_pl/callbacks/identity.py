"""What makes an evaluation this one: with another value its answers would be others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from luffy_pl.errors import ConfigError, StorageError
from luffy_pl.experience.benchmarks import REWARD, Benchmark
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.process.files import write_file
from luffy_pl.registry import check_same_plugins, recorded_plugins

FILE, PLUGINS = "identity.json", "plugins"
ENGINE = ("kind", "dtype", "max_model_len")


def identity_of(data: LuffyDataModule, checkpoint: str | Path | None) -> dict[str, Any]:
    """Settings by their dotted names, as JSON has them."""
    identity = {
        "model.policy.path": on_disk(data.model_path),
        "ckpt_path": None if checkpoint is None else on_disk(str(checkpoint)),
        "seed_everything": data.seed,
        **{f"data.engine.{name}": getattr(data.engine_config, name) for name in ENGINE},
        "data.benchmarks": [benchmark.name for benchmark in data.benchmarks],
    }
    for benchmark in data.benchmarks:
        for name, value in settings_of(benchmark, data).items():
            identity[f"data.benchmarks[{benchmark.name}].{name}"] = value
    if loaded := recorded_plugins():
        identity[PLUGINS] = loaded
    return json.loads(json.dumps(identity))


def settings_of(benchmark: Benchmark, data: LuffyDataModule) -> dict[str, Any]:
    """How one benchmark is asked and graded, with what it takes from the run."""
    reward = dataclasses.asdict(benchmark.reward or data.reward_config)
    # Says how fast, not how.
    reward.pop("workers")
    return {
        "samples_per_problem": benchmark.samples_per_problem,
        "temperature": benchmark.temperature,
        "top_p": benchmark.top_p,
        "max_response_tokens": benchmark.max_tokens(data.rollout.max_response_tokens),
        **{f"source.{name}": v for name, v in dataclasses.asdict(benchmark.source).items()},
        **{f"reward.{name}": value for name, value in reward.items()},
        # Answers are kept with what they are paid.
        **({"metrics": [REWARD]} if REWARD in benchmark.metrics else {}),
    }


def on_disk(path: str) -> dict[str, Any]:
    """A path with its size in bytes and its last change (ns since 1970), all files of a folder.

    A name of the hub has neither.
    """
    root = Path(path)
    files = [root] if root.is_file() else [file for file in root.rglob("*") if file.is_file()]
    stats = [file.stat() for file in files]
    if not stats:
        return {"path": path}
    changed = max(stat.st_mtime_ns for stat in stats)
    return {"path": path, "bytes": sum(stat.st_size for stat in stats), "changed_ns": changed}


def write_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Beside the answers."""
    write_file(folder / FILE, json.dumps(identity, indent=2) + "\n")


def check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Refuse to continue an evaluation that was begun with other settings."""
    path = folder / FILE
    if not path.exists():
        raise StorageError(str(folder), "holds no evaluation to resume", fix="leave --resume out")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        before = None
    if not isinstance(before, dict):
        raise StorageError(
            str(path), "does not say what was evaluated", fix="leave --resume out to begin again"
        )
    check_same_plugins(before.get(PLUGINS), where=str(folder.parent))
    for key in [*identity, *before]:
        if key == PLUGINS:
            continue
        old, new = before.get(key), identity.get(key)
        if old != new:
            raise ConfigError(
                key,
                f"the evaluation in {folder.parent} was begun with {old!r}",
                value=new,
                fix="resume with the same value, or leave --resume out to begin again",
            )
