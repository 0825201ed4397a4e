"""Answers a person can read: some of each phase on disk, a few on the screen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from luffy_pl.bounds import Bound, check_bound
from luffy_pl.callbacks.token_values import token_values
from luffy_pl.errors import printable
from luffy_pl.experience.answering import GradedChunk
from luffy_pl.process.files import append_to_file, write_file
from luffy_pl.records import Experience, Group
from luffy_pl.training.module import LuffyModule


class Samples(L.Callback):
    """Writes `rollouts/phase-N.jsonl` and shows one group now and then; N is 1 after the first.

    Args:
        groups_per_phase: groups of rank 0 written for each phase; null writes all of them.
        show_every_n_phases: one group as a table on the terminal; null shows none.
        token_values: also write the log-probability and the weight of each token, which
            `luffy-pl view` colours; the files are then about four times as large.
    """

    def __init__(
        self,
        groups_per_phase: int | None = 4,
        show_every_n_phases: int | None = None,
        token_values: bool = True,
    ) -> None:
        for name, value, least in (
            ("groups_per_phase", groups_per_phase, 0),
            ("show_every_n_phases", show_every_n_phases, 1),
        ):
            check_bound(f"samples.{name}", value, Bound(at_least=least, at_most=1e9))
        self.groups_per_phase = groups_per_phase
        self.show_every_n_phases = show_every_n_phases
        self.token_values = token_values

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """The groups of the phase that was just trained, on rank 0."""
        if not trainer.is_global_zero:
            return
        # Counted as metrics, evaluations and checkpoints count: phases trained.
        folder, phase = Path(trainer.default_root_dir) / "rollouts", module.phases_trained
        shown = batch.groups[: self.groups_per_phase]
        trained: list[dict[str, Any]] = [{"advantage": a} for a in batch.advantage_N.tolist()]
        if self.token_values:
            tokenizer = trainer.datamodule.tokenizer
            of_tokens = token_values(module, outputs, batch, shown, tokenizer)
            trained = [{**row, **more} for row, more in zip(trained, of_tokens, strict=False)]
        write_groups(folder / f"phase-{phase:06d}.jsonl", shown, trained)
        if self.show_every_n_phases and phase % self.show_every_n_phases == 0:
            Console().print(group_table(batch.groups[0], phase=phase))

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        module: LuffyModule,
        outputs: Any,
        batch: GradedChunk,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Answers of `luffy-pl predict`, by benchmark and rank."""
        name = f"{batch.benchmark.name}-{trainer.global_rank}-{batch_idx:04d}.jsonl"
        write_groups(Path(trainer.default_root_dir) / "predictions" / name, batch.groups)


def write_groups(
    path: Path, groups: Sequence[Group], trained: Iterable[Mapping[str, Any]] | None = None
) -> None:
    """One line per response: prompt, answer, source, verdict, reward, and what training adds."""
    write_file(path, group_lines(groups, trained))


def append_groups(path: Path, groups: Sequence[Group]) -> None:
    """The same lines behind those that are there; on their way to the disk when this returns."""
    append_to_file(path, group_lines(groups))


def group_lines(groups: Sequence[Group], trained: Iterable[Mapping[str, Any]] | None = None) -> str:
    """JSON Lines; `evaluation/answers.py` reads them back."""
    lines = []
    more = iter(trained) if trained is not None else None
    for group in groups:
        for response, reward in zip(group.responses, group.rewards, strict=True):
            line = {
                "prompt_id": group.prompt.id,
                "prompt": group.prompt.text,
                "source": response.source,
                "response": response.text,
                "tokens": len(response.token_ids),
                "finish_reason": response.finish_reason,
                "reward": reward,
                "verdict": dataclasses.asdict(response.verdict),
            }
            if response.hint is not None:
                line["hint"] = {"share": response.hint.share, "text": response.hint.text}
            if more is not None:
                line |= next(more)
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


def group_table(group: Group, *, phase: int) -> Table:
    """A group side by side; control characters of the model never reach the terminal."""
    prompt = printable(group.prompt.text, keep="\n")[-120:]
    table = Table(title=escape(f"phase {phase}: {prompt}"), title_justify="left")
    for column in ("source", "reward", "status", "tokens", "answer"):
        table.add_column(column, overflow="fold")
    for response, reward in zip(group.responses, group.rewards, strict=True):
        table.add_row(
            response.source,
            "-" if reward is None else f"{reward:g}",
            response.verdict.status,
            str(len(response.token_ids)),
            # Text, not a string: the answer may hold console markup.
            Text(printable(response.text, keep="\n")[-160:]),
        )
    return table
