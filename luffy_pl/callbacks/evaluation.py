"""Benchmarks before, during and after training, through Lightning's validation loop."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.logging import log_phase
from luffy_pl.callbacks.screen import console
from luffy_pl.evaluation.metrics import BenchmarkMetric, extra_metrics
from luffy_pl.evaluation.problems import write_problems
from luffy_pl.evaluation.results import AVERAGES, write_results
from luffy_pl.evaluation.statistics import SHARE, macro_average
from luffy_pl.evaluation.tables import extra_table, results_table
from luffy_pl.experience.answering import GradedChunk
from luffy_pl.process.files import append_to_file
from luffy_pl.process.interrupt import Stopped, agree
from luffy_pl.records import Experience
from luffy_pl.run_dir.begin import cut_evaluation
from luffy_pl.run_dir.checkpoints import run_of
from luffy_pl.run_dir.read import read_setting
from luffy_pl.training.module import LuffyModule

SCORE = "val/test_score/"
"""What the name of a benchmark's logged accuracy begins with."""


class Evaluation(L.Callback):
    """Counts graded answers, logs `val/*`, and prints a table with intervals.

    Args:
        every_n_phases: phases between two evaluations; null evaluates only before and after.
        before_training: evaluate the untrained policy too, to have something to compare with.
    """

    def __init__(self, every_n_phases: int | None = 10, before_training: bool = True) -> None:
        check_bound("evaluation.every_n_phases", every_n_phases, Bound(at_least=1, at_most=1e9))
        self.every_n_phases, self.before_training = every_n_phases, before_training
        self.metrics: dict[str, BenchmarkMetric] = {}
        self.chunks: dict[str, GradedChunk] = {}
        self.evaluated_phase: int | None = None

    def setup(self, trainer: L.Trainer, module: LuffyModule, stage: str) -> None:
        """During fit this callback alone decides when to validate, not the end of an epoch."""
        trainer.check_val_every_n_epoch = sys.maxsize

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """The row every later one is compared with; and an evaluation that was cut off."""
        phase = module.phases_trained
        if phase > 0 and self.is_due(trainer, phase) and self.evaluated_phase != phase:
            if trainer.is_global_zero:
                cut_evaluation(Path(trainer.default_root_dir), phase)
            validate_within_fit(trainer)
        elif self.before_training and phase == 0:
            validate_within_fit(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """Every so many phases, and after the last."""
        if self.is_due(trainer, module.phases_trained):
            validate_within_fit(trainer)

    def is_due(self, trainer: L.Trainer, phase: int) -> bool:
        """Whether the policy is evaluated after so many phases."""
        is_last = phase == trainer.datamodule.rollout.num_phases
        return is_last or bool(self.every_n_phases and phase % self.every_n_phases == 0)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"evaluated_phase": self.evaluated_phase}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with what a checkpoint holds."""
        self.evaluated_phase = state_dict["evaluated_phase"]

    def on_validation_epoch_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Begin counting."""
        self.metrics, self.chunks = {}, {}

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: LuffyModule,
        outputs: Any,
        batch: GradedChunk,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one chunk of one benchmark."""
        name = batch.benchmark.name
        if name not in self.metrics:
            extra = extra_metrics(batch.benchmark.metrics, where=f"data.benchmarks[{name}].metrics")
            metric = BenchmarkMetric(batch.num_problems, extra=extra)
            self.metrics[name] = metric.to(module.device)
            self.chunks[name] = batch
        self.metrics[name].update(batch.index, batch.groups)

    def on_validation_epoch_end(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Log, write and show; every rank takes part in adding up."""
        agree(trainer.strategy)  # a rank that was stopped while it sampled is not here
        rows, counts = self.rows(), self.problem_counts()
        phase = module.phases_trained
        graded = [row for row in rows if row["n"]]  # a grader may be `none`
        values = {f"{SCORE}{row['benchmark']}": row["avg"] for row in graded}
        log_phase(trainer, values, phase=phase)
        if is_fit := trainer.state.fn == "fit":
            self.evaluated_phase = phase
        if not trainer.is_global_zero:
            return
        name = "evaluation" if is_fit else trainer.state.fn.value
        folder, data = Path(trainer.default_root_dir), trainer.datamodule
        lines = (json.dumps({"phase": phase, **row}) + "\n" for row in rows)
        append_to_file(folder / f"{name}.jsonl", "".join(lines))
        for benchmark, problems in zip(data.benchmarks, data.problems, strict=True):
            write_problems(
                folder / name,
                benchmark.name,
                phase=phase,
                ids=[problem.id for problem in problems],
                out_of_distribution=benchmark.out_of_distribution,
                counts=counts.get(benchmark.name, {}),
            )
        if not is_fit:
            checkpoint = str(trainer.ckpt_path) if trainer.ckpt_path else None
            write_results(
                folder,
                rows,
                command=name,
                model=data.model_path,
                checkpoint=checkpoint,
                phase=phase,
                recipe=None if checkpoint is None else read_setting(run_of(checkpoint), "recipe"),
            )
        screen, when = console(), f"after phase {phase}" if phase else "before training"
        screen.print(results_table(rows, title=f"evaluation {when}", width=screen.width))
        if (extra := extra_table(rows, title=f"metrics {when}")) is not None:
            screen.print(extra)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def problem_counts(self) -> dict[str, dict[int, dict[str, int]]]:
        """Counts of every answered problem, by benchmark and number; every rank calls this."""
        counts = {}
        for name, metric in self.metrics.items():
            with metric.sync_context():
                counts[name] = metric.problems()
        return counts

    def rows(self) -> list[dict[str, Any]]:
        """One row per benchmark, then the averages in and out of distribution.

        Every rank calls this: computing a metric sums it over ranks.
        """
        rows: list[dict[str, Any]] = []
        accuracies: dict[bool, list[Tensor]] = {False: [], True: []}
        for name, metric in self.metrics.items():
            benchmark = self.chunks[name].benchmark
            settings = {
                "temperature": benchmark.temperature,
                "out_of_distribution": benchmark.out_of_distribution,
            }
            rows.append({"benchmark": name, **settings, **metric.compute()})
            with metric.sync_context():
                accuracy = metric.accuracy()
            if len(accuracy):
                accuracies[benchmark.out_of_distribution].append(accuracy)
        for is_ood, name in AVERAGES.items():
            if len(accuracies[is_ood]) > 1:
                average = macro_average(accuracies[is_ood], span=SHARE)
                count = sum(map(len, accuracies[is_ood]))
                about = {"benchmark": name, "out_of_distribution": is_ood, "n": count}
                ends = {"low": average.low, "high": average.high}
                rows.append({**about, "avg": average.value, **ends})
        return rows


def logged_scores(data: Any) -> list[str]:
    """The names under which evaluations of a composed section `data` log accuracies."""
    graded = [one for one in data.benchmarks if (one.reward or data.reward).grader != "none"]
    places = Counter(bool(one.out_of_distribution) for one in graded)
    averages = [name for is_ood, name in AVERAGES.items() if places[is_ood] > 1]
    return [f"{SCORE}{name}" for name in (*(one.name for one in graded), *averages)]


def validate_within_fit(trainer: L.Trainer) -> None:
    """Run Lightning's validation loop now, and go back to training."""
    connector = trainer._logger_connector
    first_loop_iter = connector._first_loop_iter
    trainer.validating = True
    # Sampling has no collectives; all ranks meet once, here or where the counts are added up.
    try:
        trainer.fit_loop.epoch_loop.val_loop.run()
    except Stopped as stopped:
        if not stopped.is_agreed:
            agree(trainer.strategy)
        raise
    trainer.training = True
    # The validation loop resets it, and Lightning's own mid-epoch validation puts it back too.
    connector._first_loop_iter = first_loop_iter
