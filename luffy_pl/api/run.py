"""A run as Python sees it: started, opened, looked at, continued, exported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from luffy_pl.api.child import override_arguments, run_command
from luffy_pl.bundled import resolve
from luffy_pl.config.sources import read_sources
from luffy_pl.errors import StorageError
from luffy_pl.run_dir import DEFAULT_RUN_DIR
from luffy_pl.run_dir.read import read_lines, read_run

PathLike = str | os.PathLike[str]

RUN_DIR = "run_dir"


@dataclass(frozen=True)
class Run:
    """The folder of a run. Everything is read from it when it is asked for, also while it trains.

    folder: where the run keeps its files.
    """

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """The composed configuration of the run.

        Raises:
            StorageError: the folder holds no configuration.
        """
        file = self.folder / "config.yaml"
        try:
            return yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise StorageError(
                str(file), f"cannot be read ({error.strerror})", fix="give the folder of a fit"
            ) from None

    @property
    def metrics(self) -> list[dict[str, float]]:
        """One row for each phase, in order, as `pandas.DataFrame(run.metrics)` takes them."""
        history = read_run(self.folder)
        return [{"phase": phase, **row} for phase, row in sorted(history.metrics.items())]

    @property
    def results(self) -> list[dict[str, Any]]:
        """One row for each benchmark of each evaluation, with n, k and a 95% interval."""
        return read_run(self.folder).evaluations

    def report(self, *others: Run) -> str:
        """The table of `luffy-pl report`, beside other runs if there are some."""
        folders = [str(run.folder) for run in (self, *others)]
        return run_command(["report", *folders], say=len)

    def resume(
        self, *, overrides: Mapping[str, Any] | None = None, plugins: Sequence[PathLike] = ()
    ) -> Run:
        """Continue training from the newest checkpoint."""
        return fit(
            self.folder / "config.yaml",
            overrides={**(overrides or {}), "resume": True, RUN_DIR: str(self.folder)},
            plugins=plugins,
        )

    def evaluate(
        self,
        *overlays: PathLike,
        overrides: Mapping[str, Any] | None = None,
        plugins: Sequence[PathLike] = (),
    ) -> list[dict[str, Any]]:
        """Evaluate the newest checkpoint on the benchmarks of the run, or of an overlay.

        Args:
            overlays: configuration files over that of the run, such as `bundled:eval/ood`.
            overrides: settings by dotted name.
            plugins: files that register a grader or a metric.

        Returns:
            One row for each benchmark.
        """
        checkpoint = self.folder / "checkpoints" / "last.ckpt"
        given = {RUN_DIR: str(self.folder), "ckpt_path": str(checkpoint), **(overrides or {})}
        argv = arguments("validate", (self.folder / "config.yaml", *overlays), given, plugins)
        run_command(argv)
        return read_lines(Path(given[RUN_DIR]) / "validate.jsonl")

    def export(self, out: PathLike) -> Path:
        """Write the trained model as a folder that transformers and vLLM load."""
        run_command(["export", str(self.folder), "--out", os.fspath(out)])
        return Path(out)


def fit(
    config: PathLike,
    *overlays: PathLike,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[PathLike] = (),
) -> Run:
    """Train, in a process of its own, and return the run.

    Args:
        config: a configuration file, or one that comes with the package: `bundled:quickstart`.
        overlays: files over it; later ones win, setting by setting.
        overrides: settings by dotted name, over all files: `{"data.rollout.num_phases": 20}`.
        plugins: files of yours that register a reward, a shaping, ... They are executed.

    Raises:
        LuffyError: what the command line would say in one line; nothing of the run is lost.
        KeyboardInterrupt: the run was stopped; `Run.resume` continues it.
    """
    argv = arguments("fit", (config, *overlays), overrides or {}, plugins)
    run_command(argv)
    found = [source.values[RUN_DIR] for source in read_sources(argv) if RUN_DIR in source.values]
    return Run(Path(found[-1] if found else DEFAULT_RUN_DIR))


def load_run(folder: PathLike) -> Run:
    """The run in a folder. Nothing that the folder names is imported.

    Raises:
        StorageError: no run has written into the folder.
    """
    read_run(Path(folder))
    return Run(Path(folder))


def arguments(
    command: str,
    files: Sequence[PathLike],
    overrides: Mapping[str, Any],
    plugins: Sequence[PathLike],
) -> list[str]:
    """The command line that stands for a call."""
    return [
        command,
        *(f"--config={resolve(os.fspath(file))}" for file in files),
        *override_arguments(overrides),
        *(f"--plugin={os.fspath(file)}" for file in plugins),
    ]
