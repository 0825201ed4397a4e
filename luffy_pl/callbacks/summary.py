"""The end of a run: before and after, a picture, and what to try next."""

from __future__ import annotations

import shlex
from pathlib import Path

import lightning as L

from luffy_pl.callbacks.screen import console
from luffy_pl.commands.program import runnable
from luffy_pl.report.command import comparison
from luffy_pl.report.curves import plot_runs
from luffy_pl.run_dir.read import read_run
from luffy_pl.training.module import LuffyModule


class Summary(L.Callback):
    """Prints the comparison of first and last evaluation and writes curves.png.

    Args:
        next_commands: printed at the end; `{run_dir}` is filled in.
        next_commands_of: the run folder that they follow; a run in another folder does not print
            them. null: every run does.
    """

    def __init__(
        self, next_commands: list[str] | None = None, next_commands_of: str | None = None
    ) -> None:
        self.next_commands = next_commands or []
        self.next_commands_of = next_commands_of

    def on_fit_end(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """On rank 0: the table if the run was evaluated, where the rest is, and what comes next."""
        folder = Path(trainer.default_root_dir)
        if not trainer.is_global_zero:
            return
        run = read_run(folder)
        plot_runs([run], folder / "curves.png")
        screen = console(soft_wrap=True)
        if run.evaluations:
            screen.print(comparison([run]))
        found = {"curves": folder / "curves.png", "TensorBoard": folder / "tb"}
        paths = [f"{name}: {path}" for name, path in found.items() if path.exists()]
        screen.print("   ".join(paths), markup=False)
        screen.print(
            runnable(f"every answer: luffy-pl view {shlex.quote(str(folder))}"),
            highlight=False, markup=False,
        )  # fmt: skip
        if self.next_commands_of not in (None, str(folder)):
            return
        for command in self.next_commands:
            # str.format would look attributes up, and so show whatever Python can reach.
            text = runnable(command).replace("{run_dir}", shlex.quote(str(folder)))
            screen.print(f"  {text}", highlight=False, markup=False)
