"""The folder of a run: never two runs in one, and a run that goes on where it was."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from luffy_pl.config.sources import leaves
from luffy_pl.errors import ConfigError, StorageError, first_line
from luffy_pl.process.first_rank import is_first_rank
from luffy_pl.registry import check_same_plugins
from luffy_pl.run_dir import DEFAULT_RUN_DIR, fields
from luffy_pl.run_dir.checkpoints import (
    FOLDER,
    SavedPhase,
    check_hashes,
    newest,
    remove,
)
from luffy_pl.run_dir.read import whole_lines
from luffy_pl.run_dir.replaced import bring_back, set_aside
from luffy_pl.run_dir.saved_state import check_continues, read_checkpoint
from luffy_pl.run_dir.status import read_status

log = logging.getLogger(__name__)

CONFIG, METRICS, EVALUATION, RESUMES = (
    "config.yaml", "metrics.jsonl", "evaluation.jsonl", "resumes.jsonl",
)  # fmt: skip
# By phase: rollouts/phase-000012.jsonl, evaluation/phase-000020-heldout.jsonl.
PHASE_FILES = ("rollouts/phase-*.jsonl", "evaluation/phase-*.jsonl")
RESULTS = (CONFIG, METRICS, EVALUATION, RESUMES, "evaluation", "tb", "rollouts", FOLDER)

# What makes a run this run: with another value the data order or the samples would be others. What
# the data, the tokenizer and the template really give is in the checkpoint (`data/fingerprint.py`).
IDENTITY = (
    "seed_everything",
    "model.policy.path",
    "data.train.path",
    "data.rollout.prompts_per_phase",
    "data.rollout.group_size",
)
# How many phases are in it, at the beginning of a run; true is one.
FIRST_PHASES = ("data.rollout.sft_phases", "evaluation.before_training")
# How a start is made, not what is run.
OF_THE_START = ("config", "resume", "overwrite", "dry_run", "loggers", "run_dir", "ckpt_path")


def with_own_config(argv: Sequence[str]) -> list[str]:
    """`fit --resume --run_dir RUN` without --config takes RUN/config.yaml."""
    args = list(argv)
    if not args or args[0] != "fit":
        return args
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c")
    parser.add_argument("--resume", default="false")
    parser.add_argument("--run_dir", default=DEFAULT_RUN_DIR)
    known, _ = parser.parse_known_args(args[1:])
    if known.resume.lower() != "true" or known.config is not None:
        return args
    config = Path(known.run_dir) / CONFIG
    if not config.is_file():
        raise nothing_to_resume(Path(known.run_dir))
    return [args[0], "--config", str(config), *args[1:]]


def begin(run_dir: Path, *, overwrite: bool) -> None:
    """Never mix two runs in one folder; `undo_begin` brings a run back that was overwritten."""
    if not is_first_rank() or not (run_dir / METRICS).exists():
        return
    check_free(run_dir, overwrite=overwrite)
    set_aside(run_dir, RESULTS)


def check_free(run_dir: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a run which is not to be replaced."""
    if (run_dir / METRICS).exists() and not overwrite:
        raise ConfigError(
            "run_dir",
            "already holds a run",
            value=str(run_dir),
            fix="--resume, --overwrite, or another --run_dir",
        )


def undo_begin(run_dir: Path) -> None:
    """Bring back the run that was overwritten by one that has not trained a phase."""
    bring_back(run_dir, RESULTS)


def find_resumed(run_dir: Path, config: Any) -> SavedPhase | None:
    """The newest checkpoint that is whole; None if the run was killed before its first.

    Raises:
        StorageError: there is no run, or none of its checkpoints can be used.
        ConfigError: `config` is that of another run, or a setting of it would have no effect.
    """
    if not (run_dir / CONFIG).is_file():
        raise nothing_to_resume(run_dir)
    check_same_run(config, run_dir)
    saved, skipped = newest(run_dir / FOLDER)
    if saved is None and skipped:
        raise StorageError(
            str(run_dir / FOLDER),
            f"holds no whole checkpoint: {'; '.join(skipped)}",
            fix="put one back, or begin again with --overwrite",
        )
    if is_first_rank():
        for why in skipped:
            log.warning("resume: skipped %s", why)
        if saved is not None and not config.dry_run:
            check_hashes(saved.path)
    if saved is not None:
        check_continues(read_checkpoint(str(saved.state)), config, path=str(saved.path))
        check_to_come(config, run_dir, phase=saved.phase)
    return saved


def resume(run_dir: Path, saved: SavedPhase | None) -> None:
    """Cut off results of phases after a checkpoint, for they come again."""
    if is_first_rank():
        log.info("resume: after phase %d", saved.phase if saved else 0)
        cut_results(run_dir, saved.phase if saved else None)


def is_finished(run_dir: Path, saved: SavedPhase | None, *, num_phases: int) -> bool:
    """Whether all phases are trained and the run came to its end, its last evaluation included."""
    if saved is None or saved.phase != num_phases:
        return False
    try:
        return read_status(run_dir).state == "finished"
    except StorageError:
        return False


def nothing_to_resume(run_dir: Path) -> StorageError:
    """The error of a folder that no run has written to."""
    return StorageError(
        str(run_dir), "holds no checkpoint to resume from, nor a run", fix="leave --resume out"
    )


def cut_results(run_dir: Path, phase: int | None) -> None:
    """Leave what was written up to a phase; nothing of a run that begins again (None)."""
    last = -1 if phase is None else phase
    # Hyperparameters have no step.
    keep_lines(
        run_dir / METRICS,
        lambda line: line.get("step") is None or line["step"] <= last,
        fields.METRICS_LINE,
        fields.HYPERPARAMETERS_LINE,
    )
    keep_lines(run_dir / EVALUATION, lambda line: line["phase"] <= last, fields.EVALUATION_ROW)
    for pattern in PHASE_FILES:
        for file in run_dir.glob(pattern):
            number = re.match(r"phase-(\d+)", file.name)
            if number is not None and int(number[1]) > last:
                file.unlink()
    if phase is None:
        remove(run_dir / "tb")


def cut_evaluation(run_dir: Path, phase: int) -> None:
    """Remove what an evaluation wrote that comes again, as its checkpoint does not know of it."""

    def is_kept(line: dict[str, Any]) -> bool:
        names = line.keys() - {"step"}
        return line.get("step") != phase or not all(name.startswith("val/") for name in names)

    keep_lines(run_dir / METRICS, is_kept, fields.METRICS_LINE, fields.HYPERPARAMETERS_LINE)
    keep_lines(run_dir / EVALUATION, lambda line: line["phase"] != phase, fields.EVALUATION_ROW)


def keep_lines(
    path: Path, is_kept: Callable[[dict[str, Any]], bool], *kinds: fields.Fields
) -> None:
    """Drop lines of a JSON Lines file, and those of none of the kinds, in one step."""
    if not path.exists():
        return
    kept = [
        text.removesuffix("\n") + "\n" for text, line in whole_lines(path, *kinds) if is_kept(line)
    ]
    replace_content(path, "".join(kept).encode())


def kept_config(run_dir: Path) -> DictConfig:
    """The configuration that a run wrote.

    Raises:
        StorageError: it is broken.
    """
    path = run_dir / CONFIG
    try:
        found = OmegaConf.load(path)
        if isinstance(found, DictConfig):
            return found
        problem = "it is no mapping"
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        problem = first_line(error)
    raise StorageError(
        str(path),
        f"cannot be read ({problem})",
        fix="put it back, or begin again with --overwrite",
    )


def with_changed_plugin(run_dir: Path) -> str:
    """How to go on where code had to be corrected: the run itself keeps the code it began with."""
    last = run_dir / "checkpoints" / "last.ckpt"
    if not last.exists():
        return "begin again with --overwrite"
    config = run_dir / "config.yaml"
    return f"go on in a new folder: --config {config} --ckpt_path {last} --run_dir NEW"


def check_plugins(run_dir: Path) -> None:
    """A resumed run keeps its plugins, which whoever resumes it has to name again."""
    if (run_dir / CONFIG).is_file():
        recorded = OmegaConf.select(kept_config(run_dir), "plugins")
        check_same_plugins(recorded, where=str(run_dir), otherwise=with_changed_plugin(run_dir))


def check_same_run(config: Any, run_dir: Path) -> None:
    """A resumed run keeps its model, data, seed and group; the rest may change."""
    before = kept_config(run_dir)
    for key in IDENTITY:
        old, new = OmegaConf.select(before, key), config.get(key)
        if old != new:
            raise ConfigError(
                key,
                f"the run in {run_dir} was started with {old!r}",
                value=new,
                fix="resume with the same value, or start a new --run_dir",
            )


def check_to_come(config: Any, run_dir: Path, *, phase: int) -> None:
    """Refuse another value of a setting that only decides about phases that are trained."""
    before = kept_config(run_dir)
    for key in FIRST_PHASES:
        old, new = OmegaConf.select(before, key), config.get(key)
        if old is not None and old != new and int(max(old, new)) <= phase:
            raise ConfigError(
                key,
                f"would have no effect: the run in {run_dir} has trained {phase} phases with "
                f"{json.dumps(old)}",
                value=new,
                fix="resume with the same value, or start a new --run_dir",
            )


def settings_before(run_dir: Path) -> Callable[[], None]:
    """What puts the settings of a resumed run back, where those that it was given are refused."""
    config, resumes = run_dir / CONFIG, run_dir / RESUMES
    text = config.read_bytes() if config.is_file() else None
    size = resumes.stat().st_size if resumes.is_file() else None

    def put_back() -> None:
        if text is None:
            return
        replace_content(config, text)
        if size is None:
            remove(resumes)
        else:
            os.truncate(resumes, size)
        log.warning("resume: config.yaml is as it was before")

    return put_back


def keep_config(run_dir: Path, composed: str, *, phase: int | None) -> None:
    """Write config.yaml; of a run that goes on, say and keep what is other than before.

    Args:
        composed: the configuration as YAML.
        phase: after which the run goes on; None if it begins.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / CONFIG
    if phase is not None and path.is_file():
        changed = changes(path.read_text(encoding="utf-8"), composed)
        for key, (old, new) in changed.items():
            log.info("resume: %s is now %s, it was %s", key, json.dumps(new), json.dumps(old))
        with (run_dir / RESUMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": phase, "changed": changed}) + "\n")
    replace_content(path, composed.encode())


def replace_content(path: Path, content: bytes) -> None:
    """Write a file that is whole at any moment; nothing waits for a disk that is full."""
    beside = path.with_suffix(".partial")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def changes(before: str, after: str) -> dict[str, tuple[Any, Any]]:
    """Settings that differ between two configurations, by dotted key: old and new value."""
    old, new = (
        {key: value for key, value in leaves(OmegaConf.to_container(node)) if value != {}}
        for node in map(OmegaConf.create, (before, after))
    )
    return {
        key: (old.get(key), new.get(key))
        for key in [*new, *(key for key in old if key not in new)]
        if key.split(".")[0] not in OF_THE_START and old.get(key) != new.get(key)
    }
