"""A run of several ranks ends when one of them is gone, and says which."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import TracebackType

import lightning as L
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from luffy_pl.callbacks.error_report import report_unless_told
from luffy_pl.errors import EngineError, tell
from luffy_pl.process.interrupt import Stopped
from luffy_pl.process.rank_watch import RankWatch, connect_store, is_of_a_collective
from luffy_pl.training.module import LuffyModule

_watches: list[RankWatch] = []
"""The watch of this process; at most one, for as long as its command runs."""


class RankWatching(L.Callback):
    """Starts a `RankWatch` with `data.engine.deadline_s`; of a single rank there is none."""

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """All ranks have found each other."""
        if trainer.world_size == 1 or _watches:
            return
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            # Lightning looks after those of the list that it has, and would kill this process
            # without a word.
            observed = launcher.procs
            launcher.procs = list(observed)
            observed.clear()
        rank, size = trainer.global_rank, trainer.world_size
        if (store := connect_store()) is None:
            return

        def end(error: EngineError) -> None:
            tell(error)
            if isinstance(launcher, _SubprocessScriptLauncher):
                launcher.kill(signal.SIGKILL)
            report_unless_told(Path(trainer.default_root_dir), error)
            os._exit(error.exit_code)

        deadline_s = trainer.datamodule.engine_config.deadline_s
        _watches.append(RankWatch(store, rank=rank, size=size, deadline_s=deadline_s, end=end))

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """A collective that breaks off is how a rank first notices that another is gone."""
        if _watches and is_of_a_collective(exception):
            _watches[0].wait_for_verdict()


def leave_ranks(
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """As the exit of a `with`: the command ends, and with it the part of this rank."""
    while _watches:
        # Ranks that agreed to stop need each other no more.
        is_agreed = isinstance(error, Stopped) and error.is_agreed
        _watches.pop().leave(has_failed=error is not None and not is_agreed)
