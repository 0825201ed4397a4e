"""A checkpoint every so many phases, at the best metric, and when a run has to stop."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch.distributed.checkpoint.api import CheckpointException

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.evaluation import SCORE, logged_scores
from luffy_pl.errors import ConfigError, EngineError, StorageError, VerifierError, first_line
from luffy_pl.process.interrupt import Stopped, agree
from luffy_pl.records import Experience
from luffy_pl.registry import PLUGIN, nearest, plugins
from luffy_pl.run_dir import checkpoints as files
from luffy_pl.training.module import LuffyModule

log = logging.getLogger(__name__)

STATES_PER_WEIGHT = 3
"""A trained weight and AdamW's two moments."""
SPARE = 1.1


class PhaseCheckpoint(Checkpoint):
    """Saves `checkpoints/phase-N`; `checkpoints/last` is the newest. See `checkpoint_folder.py`.

    Args:
        every_n_phases: phases between two saves; the last phase is always saved.
        keep: how many to keep, beside the best one.
        best: a metric, the higher the better, such as `val/test_score/heldout`: its best phase is
            saved and kept as `checkpoints/best`; null keeps no best. A benchmark that does not
            exist is refused; another name that is not logged by the first phase is warned of.
        max_failures: saves in a row that may fail, for instance because the disk is full; the run
            goes on and tries again after the next phase. One more ends it, as does a failure after
            the last phase.
    """

    def __init__(
        self,
        every_n_phases: int = 50,
        keep: int = 2,
        best: str | None = None,
        max_failures: int = 3,
    ) -> None:
        for name, value, least in (
            ("every_n_phases", every_n_phases, 1),
            ("keep", keep, 1),
            ("max_failures", max_failures, 0),
        ):
            check_bound(f"checkpoint.{name}", value, Bound(at_least=least, at_most=1e9))
        self.every_n_phases, self.keep = every_n_phases, keep
        self.best, self.max_failures = best, max_failures
        self.best_value = -math.inf
        self.num_failures = 0
        self.saved_phase = 0
        # Whether what is in memory is the state after a whole phase, and nothing of the next one.
        self.is_between_phases = False

    # -- when --------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """One copy on the way to the disk instead of three."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = StreamedCheckpointIO()

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: LuffyModule, checkpoint: dict[str, Any]
    ) -> None:
        """The last phase of a run is not the last of one that is to train on."""
        if module.phases_trained < trainer.datamodule.rollout.num_phases:
            fit = checkpoint["loops"]["fit_loop"]
            fit["epoch_loop.batch_progress"]["is_last_batch"] = False

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """The disk has room for a checkpoint; an evaluation that was cut off may be the best."""
        self.saved_phase = module.phases_trained
        folder = checkpoints_of(trainer)

        def check() -> None:
            if trainer.is_global_zero:
                folder.mkdir(parents=True, exist_ok=True)
                files.check_free(folder, self._num_bytes(module))

        if (error := self._on_all(trainer, check)) is not None:
            raise StorageError(
                str(folder), f"a checkpoint does not fit: {error}", fix="make room, or move run_dir"
            )
        if self._is_best(trainer):
            self.save(trainer, module)
        self.is_between_phases = True

    def on_train_batch_start(
        self, trainer: L.Trainer, module: LuffyModule, batch: Experience, index: int
    ) -> None:
        """A phase that trains is trained to its end."""
        self.is_between_phases = False

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """Save where it is due; then a run that was asked to stop does so."""
        phase = module.phases_trained
        is_last = phase == trainer.datamodule.rollout.num_phases
        is_due = is_last or phase % self.every_n_phases == 0 or self.num_failures > 0
        if is_due or self._is_best(trainer):
            self.save(trainer, module, is_last=is_last)
        self.is_between_phases = True
        if phase == 1 and not is_last:
            self._warn_of_unknown(trainer)
        if not is_last:
            agree(trainer.strategy)
        elif self.best is not None and self.best_value == -math.inf:
            log.warning("checkpoint.best: %s was never logged", self.best)

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """Keep the phases that are trained, if the exception left them whole on every rank."""
        stopped = isinstance(exception, Stopped) and (
            exception.is_agreed or trainer.world_size == 1
        )
        # Raised while answers are sampled or graded: nothing of a phase has been learned yet.
        broken = isinstance(exception, EngineError | VerifierError) and trainer.world_size == 1
        if not (stopped or broken) or trainer.state.fn != "fit":
            return
        # During an evaluation the phase before it is whole, and says that it was not evaluated.
        is_whole = self.is_between_phases or trainer.validating
        if is_whole and module.phases_trained > self.saved_phase:
            self.save(trainer, module)
        if trainer.is_global_zero:
            what = (
                f"phase {self.saved_phase} is saved" if self.saved_phase else "nothing is trained"
            )
            given = "".join(f" {PLUGIN} {shlex.quote(plugin.path)}" for plugin in plugins())
            command = f"luffy-pl fit --resume --run_dir {trainer.default_root_dir}{given}"
            log.info("%s; continue with: %s", what, command)

    # -- how ---------------------------------------------------------------------------------

    def save(self, trainer: L.Trainer, module: LuffyModule, *, is_last: bool = False) -> None:
        """Save this phase; every rank takes part, and all succeed or none.

        Raises:
            StorageError: it failed once too often.
        """
        before = self.best_value
        if is_best := self._is_best(trainer):
            self.best_value = self._value(trainer)
        error = self._write(trainer, module, is_best=is_best)
        if error is None:
            self.num_failures, self.saved_phase = 0, module.phases_trained
            return
        self.best_value = before
        self.num_failures += 1
        if trainer.is_global_zero:
            for left in checkpoints_of(trainer).glob(".partial-*"):
                files.remove(left)
        trainer.strategy.barrier()
        if is_last or self.num_failures > self.max_failures:
            raise StorageError(
                str(checkpoints_of(trainer)),
                f"phase {module.phases_trained} cannot be saved: {error}",
                fix=f"make room, then --resume continues from phase {self.saved_phase}",
            )
        if trainer.is_global_zero:
            log.warning(
                "phase %d was not saved (%s); the last checkpoint is that of phase %d; failure %d "
                "of %d that are borne",
                module.phases_trained,
                error,
                self.saved_phase,
                self.num_failures,
                self.max_failures,
            )

    def _write(self, trainer: L.Trainer, module: LuffyModule, *, is_best: bool) -> str | None:
        """What went wrong, on any rank; None if nothing did."""
        folder, phase = checkpoints_of(trainer), module.phases_trained
        partial = files.partial_path(folder, phase)
        hashed: list[files.Hashed] = []

        def begin() -> None:
            if trainer.is_global_zero:
                files.begin(folder, phase, num_bytes=self._num_bytes(module))
                files.die_if_asked(0)

        def hash_own() -> None:
            own = files.files_of(partial)[trainer.global_rank :: trainer.world_size]
            hashed.extend(files.sync_and_hash(partial, own))

        def publish() -> None:
            if trainer.is_global_zero:
                about = {"world_size": trainer.world_size, "best": self._best_entry()}
                files.publish(folder, phase, hashed, about)
                if is_best:
                    files.link(folder / files.BEST, f"phase-{phase:06d}")
                files.prune(folder, keep=self.keep, up_to=phase)

        # Not trainer.save_checkpoint: after a failure the others would wait in its barrier.
        state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        error = self._on_all(trainer, begin) or self._on_all(
            trainer, lambda: trainer.strategy.save_checkpoint(state, partial / files.STATE)
        )
        error = error or self._on_all(trainer, hash_own)
        if error is None and trainer.world_size > 1:
            hashed = gathered(hashed)
        return error or self._on_all(trainer, publish)

    def _on_all(self, trainer: L.Trainer, work: Callable[[], None]) -> str | None:
        """Do it on every rank; what went wrong here, or that something did elsewhere."""
        error = None
        try:
            work()
        except (OSError, RuntimeError, CheckpointException) as raised:
            if (error := disk_error(raised)) is None:
                raise
        failed = trainer.strategy.reduce_boolean_decision(error is not None, all=False)
        return (error or "another rank could not write") if failed else None

    def _num_bytes(self, module: LuffyModule) -> int:
        states = (
            weight.numel()
            * weight.element_size()
            * (STATES_PER_WEIGHT if weight.requires_grad else 1)
            for part in (module.policy, module.following)
            for weight in part.parameters()
        )
        return int(sum(states) * SPARE)

    # -- the best ----------------------------------------------------------------------------

    def _is_best(self, trainer: L.Trainer) -> bool:
        """Whether the metric is better than in all saved phases; every rank logs the same value."""
        return self._value(trainer) > self.best_value

    def _value(self, trainer: L.Trainer) -> float:
        found = None if self.best is None else trainer.callback_metrics.get(self.best)
        return -math.inf if found is None else float(found)

    def _warn_of_unknown(self, trainer: L.Trainer) -> None:
        """Say after the first phase what is logged instead; accuracies may come later."""
        logged = trainer.callback_metrics
        if self.best is None or self.best in logged or self.best.startswith(SCORE):
            return
        close = get_close_matches(self.best, list(logged), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        log.warning("checkpoint.best: %s is not logged yet%s", self.best, hint)

    def _best_entry(self) -> dict[str, Any] | None:
        found = self.best is not None and self.best_value > -math.inf
        return {"metric": self.best, "value": self.best_value} if found else None

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"best": self._best_entry()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start over if the metric changed."""
        best = state_dict.get("best")
        if best is not None and best["metric"] == self.best:
            self.best_value = best["value"]


def check_best(best: str | None, data: Any) -> None:
    """Refuse the accuracy of a benchmark that no evaluation of the run measures.

    Args:
        best: `checkpoint.best`.
        data: the composed section `data`.
    """
    if best is None or not best.startswith(SCORE) or best in (known := logged_scores(data)):
        return
    raise ConfigError(
        "checkpoint.best",
        "is the accuracy of no benchmark of this run",
        value=best,
        fix=nearest(best, known) if known else "add it to data.benchmarks, or use null",
    )


class StreamedCheckpointIO(TorchCheckpointIO):
    """Writes into the file; Lightning builds it in memory, copies it, and moves it from $TMPDIR."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """An error leaves a torn file: the folder around it has no manifest yet."""
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)


def disk_error(error: BaseException) -> str | None:
    """What the disk said, if this is about it: torch wraps it once or twice."""
    if isinstance(error, CheckpointException):
        inner = [raised for raised, _ in error.failures.values()]
        return next((found for found in map(disk_error, inner) if found), None)
    if isinstance(error, RuntimeError):
        return disk_error(error.__context__) if error.__context__ is not None else None
    return first_line(error) if isinstance(error, OSError) else None


def gathered(mine: list[files.Hashed]) -> list[files.Hashed]:
    """The files of all ranks."""
    found: list[list[files.Hashed]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(found, mine)
    return [entry for of_rank in found for entry in of_rank]


def checkpoints_of(trainer: L.Trainer) -> Path:
    """The folder of a run's checkpoints."""
    return Path(trainer.default_root_dir) / files.FOLDER
