"""A run that is asked to end does so where it can go on later."""

from __future__ import annotations

import signal
from pathlib import Path

import lightning as L
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from luffy_pl.process import interrupt
from luffy_pl.process.interrupt import Stopped
from luffy_pl.training.module import LuffyModule

STOP_FILE = "stop"


class Interruption(L.Callback):
    """Lets signals wait for the end of a phase; `touch RUN/stop` does the same as SIGTERM."""

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """From here on there is something to save."""
        stop_file = Path(trainer.default_root_dir) / STOP_FILE
        if trainer.is_global_zero:
            stop_file.unlink(missing_ok=True)
        trainer.strategy.barrier()
        interrupt.defer(stop_file)
        # Attached last: what is stopped here was shown before.
        trainer.datamodule.attach(progress=self.on_stage)

    @staticmethod
    def on_stage(stage: str, done: int, total: int) -> None:
        """Stop a stage that can be done again; a phase that trains is trained to its end."""
        if stage != "train":
            interrupt.check()

    def on_train_end(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Everything is saved."""
        interrupt.defer_no_more()

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """Ranks that this process started and that know nothing of it end too."""
        interrupt.defer_no_more()
        launcher = trainer.strategy.launcher
        if not isinstance(launcher, _SubprocessScriptLauncher):
            return
        if isinstance(exception, Stopped) and exception.is_agreed:
            # All save and end. Lightning watches over these, and would kill this process when the
            # first of them ends with another code than 0.
            launcher.procs.clear()
        else:
            launcher.kill(signal.SIGKILL)
