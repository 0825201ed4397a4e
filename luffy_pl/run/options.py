"""The options of a run that belong to no section."""

from __future__ import annotations

from typing import Any, NamedTuple

from luffy_pl.run_dir import DEFAULT_RUN_DIR


class Option(NamedTuple):
    """What the parser is told of an option."""

    type: Any
    default: Any
    help: str


OPTIONS = {
    "recipe": Option(
        str | None, None, "name of the method, which conf/recipe sets; kept with all results"
    ),
    "run_dir": Option(str, DEFAULT_RUN_DIR, "all files of a run"),
    "resume": Option(
        bool,
        False,
        "continue the run in run_dir: fit from its last checkpoint, validate and test from the "
        "answers they kept",
    ),
    "overwrite": Option(bool, False, "replace the run in run_dir"),
    "dry_run": Option(
        bool,
        False,
        "read settings, data and weights that are on this machine, say what the run would do, and "
        "stop before the engine",
    ),
    "cpu_threads": Option(int | None, None, "threads of one process"),
    "loggers": Option(
        list[str],
        ["tensorboard"],
        "where metrics of fit go beside metrics.jsonl: tensorboard, wandb, mlflow, trackio, and "
        "what packages and plugins register",
    ),
    "plugins": Option(
        list[dict[str, str]],
        [],
        "written by the run: path and hash of each --plugin FILE.py; loads nothing",
    ),
}
OF_LIGHTNING = {
    "seed_everything": Option(int, 0, "key of every draw"),
    "ckpt_path": Option(str | None, None, "checkpoint to start from or to evaluate"),
}
"""Those that Lightning's parser adds, with a text of ours."""
