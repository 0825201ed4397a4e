"""The run that `--overwrite` replaces goes when the new one has trained a phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from luffy_pl.run_dir.replaced import forget
from luffy_pl.training.module import LuffyModule


class Replacement(L.Callback):
    """Deletes the earlier run, which `run_dir/replaced.py` has set aside."""

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, *_: Any, **__: Any
    ) -> None:
        """Until here the new run may have failed to start."""
        if trainer.is_global_zero:
            forget(Path(trainer.default_root_dir))
