"""Every graded answer of validate and test, on disk as soon as it is there; and how to go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning as L

from luffy_pl.callbacks.identity import check_identity, identity_of, write_identity
from luffy_pl.callbacks.samples import append_groups
from luffy_pl.evaluation.answers import answer_files, drop_incomplete, read_kept_answers
from luffy_pl.experience.answering import GradedChunk
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.training.module import LuffyModule


class Answers(L.Callback):
    """Appends each chunk to `validate/answers/<benchmark>-<rank>.jsonl`; nothing during fit.

    A new evaluation replaces the answers of the last one, but only when it has got so far that it
    can give its own.

    Args:
        resume: linked from `resume`: problems that were finished are read back instead of sampled.
    """

    def __init__(self, resume: bool = False) -> None:
        self.resume = resume
        self.folder: Path | None = None

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """Read finished problems back, before the data module makes its streams."""
        self.folder = answers_folder(trainer.default_root_dir, trainer.state.fn.value)
        if self.folder is None or not self.resume:
            return
        data: LuffyDataModule = trainer.datamodule
        if trainer.is_global_zero:
            # Of all files: this evaluation may have had more ranks before.
            for benchmark in data.benchmarks:
                for path in answer_files(self.folder, benchmark.name):
                    drop_incomplete(path, benchmark.samples_per_problem)
        trainer.strategy.barrier()
        data.attach(
            known={
                benchmark.name: read_kept_answers(
                    self.folder,
                    benchmark.name,
                    problems=problems,
                    samples=benchmark.samples_per_problem,
                )
                for benchmark, problems in zip(data.benchmarks, data.problems, strict=True)
            }
        )

    def on_validation_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """The first answer is near: say what they will be answers of."""
        if self.folder is None:
            return
        identity = identity_of(trainer.datamodule, trainer.ckpt_path)
        if self.resume:
            check_identity(self.folder, identity)
        elif trainer.is_global_zero:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_identity(self.folder, identity)
        # No rank writes before all have read, and before the old answers are gone.
        trainer.strategy.barrier()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: LuffyModule,
        outputs: Any,
        batch: GradedChunk,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append what was not read from there."""
        if self.folder is None:
            return
        name = batch.benchmark.name
        known = trainer.datamodule.known.get(name, {})
        path = self.folder / f"{name}-{trainer.global_rank}.jsonl"
        append_groups(path, [group for group in batch.groups if group.prompt.id not in known])

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end


def answers_folder(run_dir: str | Path, stage: str) -> Path | None:
    """Where validate and test keep their answers; None for any other stage."""
    return Path(run_dir) / stage / "answers" if stage in ("validate", "test") else None
