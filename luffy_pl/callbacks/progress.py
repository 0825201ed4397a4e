"""One view of what takes long: a run with the stage it is in, or an evaluation."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.remaining import ALL, Remaining
from luffy_pl.callbacks.screen import TimeLeft, close_bars, console, show_bars
from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.records import Experience
from luffy_pl.training.module import LuffyModule

SHOWN = {
    "reward": "on_off_metrics/on_score",
    "entropy": "entropy/rollout_nats",
    "tokens": "on_off_metrics/on_response_length_mean",
}


class PhaseProgress(ProgressBar):
    """Bars on a terminal; plain lines elsewhere.

    A run has one bar, the stage it is in another. An evaluation that is not part of a run has one
    for each benchmark and one for all, with the time that is left. On several ranks they count the
    answers of the first.

    Args:
        line_every_s: seconds between two lines where there is no terminal.
    """

    def __init__(self, line_every_s: float = 30.0) -> None:
        check_bound("progress.line_every_s", line_every_s, Bound(at_least=0, at_most=1e9))
        super().__init__()
        self.line_every_s = line_every_s
        self.is_enabled = True
        self.last_line = 0.0
        self.bars: Progress | None = None
        self.remaining: Remaining | None = None
        self.benchmark_bars: dict[str, TaskID] = {}

    def enable(self) -> None:
        """Show progress (rank 0)."""
        self.is_enabled = True

    def disable(self) -> None:
        """Show nothing (other ranks)."""
        self.is_enabled = False

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """Listen to the stages of the run."""
        super().setup(trainer, module, stage)
        trainer.datamodule.attach(progress=self.on_stage)
        self.num_phases = trainer.datamodule.rollout.num_phases

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Open the bars."""
        if self.is_enabled and console().is_terminal:
            self.bars = show_bars(
                TextColumn("{task.description:<11}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeLeft(),
                TextColumn("{task.fields[note]}"),
            )
            self.run_bar = self.bars.add_task(
                "phase", total=self.num_phases, completed=module.phases_trained, note=""
            )
            self.stage_bar = self.bars.add_task("", total=1, note="")

    def on_stage(self, stage: str, done: int, total: int) -> None:
        """A stage moved: generate, score, train, or a benchmark's name."""
        if self.remaining is not None:
            self.on_answers(self.remaining, stage, done)
        elif self.bars is not None:
            self.bars.update(self.stage_bar, description=stage, completed=done, total=total)
        elif self.is_enabled and time.monotonic() - self.last_line > self.line_every_s:
            self.line(f"{stage} {done}/{total}")

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """A phase ended."""
        metrics = trainer.callback_metrics
        note = ", ".join(
            f"{name} {metrics[key]:.3g}" for name, key in SHOWN.items() if key in metrics
        )
        if self.bars is not None:
            self.bars.update(self.run_bar, completed=module.phases_trained, note=note)
        elif self.is_enabled and time.monotonic() - self.last_line > self.line_every_s:
            self.line(f"phase {module.phases_trained}/{self.num_phases}: {note}")

    def on_validation_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Open a bar for each benchmark, if the evaluation is not part of a run."""
        if trainer.state.fn == "fit":
            return
        data: LuffyDataModule = trainer.datamodule
        shares = {share.benchmark.name: share for share in data.shares()}
        self.remaining = Remaining(
            total={name: share.num_answers for name, share in shares.items()},
            done={name: share.num_done(0) for name, share in shares.items()},
        )
        self.remaining.start(ALL, now_s=time.monotonic())
        if self.is_enabled and console().is_terminal:
            self.bars = show_bars(
                TextColumn("{task.description:<13}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[note]}"),
            )
            for name in [*shares, *([ALL] if len(shares) > 1 else [])]:
                done, total = self.remaining.counts(name)
                self.benchmark_bars[name] = self.bars.add_task(
                    name, total=total, completed=done, note=f"{done}/{total} answers"
                )

    def on_answers(self, remaining: Remaining, stage: str, done: int) -> None:
        """A benchmark moved; of other stages, such as score, an evaluation shows nothing."""
        if stage not in remaining.total:
            return
        now_s = time.monotonic()
        remaining.start(stage, now_s=now_s)
        remaining.done[stage] = done
        if self.bars is not None:
            for name in self.benchmark_bars.keys() & {stage, ALL}:
                completed, note = remaining.counts(name)[0], remaining.text(name, now_s=now_s)
                self.bars.update(self.benchmark_bars[name], completed=completed, note=note)
        elif self.is_enabled and now_s - self.last_line > self.line_every_s:
            self.line(remaining.line(stage, now_s=now_s))

    def on_validation_epoch_end(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Close the bars of an evaluation: its table comes next."""
        if self.remaining is not None:
            self.remaining, self.benchmark_bars = None, {}
            self.close()

    on_test_start = on_validation_start
    on_test_epoch_end = on_validation_epoch_end
    on_predict_start = on_validation_start
    on_predict_epoch_end = on_validation_epoch_end

    def on_train_end(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Close the bars."""
        self.close()

    def on_exception(
        self, trainer: L.Trainer, module: LuffyModule, exception: BaseException
    ) -> None:
        """Close the bars: the message must stay readable."""
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self.bars is not None:
            close_bars(self.bars)
            self.bars = None

    def line(self, text: str) -> None:
        """One plain line."""
        self.last_line = time.monotonic()
        sys.stderr.write(text + "\n")
