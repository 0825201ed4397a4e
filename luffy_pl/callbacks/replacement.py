"""What a start replaces of a run goes when the first phase is trained, or comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from luffy_pl.errors import ConfigError, DataError, ModelError
from luffy_pl.run_dir.replaced import forget
from luffy_pl.training.module import LuffyModule


class Replacement(L.Callback):
    """Deletes the earlier run, which `run_dir/replaced.py` has set aside.

    take_back: puts the settings of a resumed run back. It is called where those that it was given
    are refused before a phase is trained: `--resume` alone would meet the same refusal again.
    """

    take_back: Callable[[], None] | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, *_: Any, **__: Any
    ) -> None:
        """Until here the new run may have failed to start."""
        self.take_back = None
        if trainer.is_global_zero:
            forget(Path(trainer.default_root_dir))

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """What is wrong with the settings or with what they name was found after they were kept."""
        if self.take_back and isinstance(exception, ConfigError | DataError | ModelError):
            self.take_back()
            self.take_back = None
