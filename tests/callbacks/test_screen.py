"""Bars and tables on one terminal: what is left on it when the bars are gone."""

import io
import re
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from luffy_pl.callbacks import screen
from luffy_pl.callbacks.progress import PhaseProgress
from luffy_pl.evaluation.tables import plain_table
from luffy_pl.process import interrupt


def shown(written):
    """The lines that a terminal holds after it was sent this."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            column = 0
        elif piece.endswith("A") and piece.startswith("\x1b"):
            row -= int(piece[2:-1] or 1)
            assert row >= 0
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith("\x1b"):
            line = lines[row].ljust(column)
            lines[row] = line[:column] + piece + line[column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """What is written to a terminal of 100 columns."""
    written = io.StringIO()
    made = partial(Console, file=written, force_terminal=True, width=100)
    monkeypatch.setattr(screen, "Console", made)
    monkeypatch.setattr(screen, "Progress", lambda *a, **b: Progress(*a, console=made(), **b))
    return written


def table(title):
    made = plain_table(title, ["benchmark"], ["n"])
    made.add_row("heldout", "256")
    return made


def run_of(num_phases):
    """A trainer and a module as far as progress looks at them."""
    data = SimpleNamespace(rollout=SimpleNamespace(num_phases=num_phases), attach=lambda **_: None)
    trainer = SimpleNamespace(datamodule=data, callback_metrics={"on_off_metrics/on_score": 0.5})
    return trainer, SimpleNamespace(phases_trained=0)


def test_tables_of_a_run_stand_alone_and_no_bar_is_left(terminal):
    progress, (trainer, module) = PhaseProgress(), run_of(3)
    progress.num_phases = 3
    progress.on_train_start(trainer, module)
    for phase in range(3):
        for done in range(4):
            progress.on_stage("generate", done, 4)
        progress.bars.refresh()
        screen.console().print(table(f"phase {phase}"))
        module.phases_trained = phase + 1
        progress.on_train_batch_end(trainer, module, None, None, phase)
        progress.bars.refresh()
    during = shown(terminal.getvalue())
    assert [line for line in during if "generate" in line or "reward 0.5" in line] == during[-2:]
    progress.on_train_end(trainer, module)
    after = shown(terminal.getvalue())
    titles = [line for line in after if line.startswith("phase")]
    assert titles == ["phase 0", "phase 1", "phase 2"]
    assert not [line for line in after if "generate" in line or "━" in line]
    assert screen.console().is_terminal  # without bars there is a console all the same


def test_the_line_of_a_signal_stands_above_the_bars(terminal):
    progress, (trainer, module) = PhaseProgress(), run_of(3)
    progress.num_phases = 3
    progress.on_train_start(trainer, module)
    progress.on_stage("generate", 1, 4)
    progress.bars.refresh()
    assert screen.bar_lines() == 2
    terminal.write("^C" + interrupt.above(screen.bar_lines(), "SIGINT: stops"))
    progress.bars.refresh()
    assert [line.split()[0] for line in shown(terminal.getvalue())] == [
        "SIGINT:", "phase", "generate",
    ]  # fmt: skip
    progress.on_exception(trainer, module, KeyboardInterrupt())
    assert shown(terminal.getvalue()) == ["SIGINT: stops"]
    assert screen.bar_lines() == 0
    assert interrupt.above(0, "SIGINT") == "SIGINT\n"


def test_a_time_says_what_it_is():
    column = screen.TimeLeft()
    for left_s, text in ((80.0, "1:20 left"), (None, ""), (0.0, "")):
        assert column.render(SimpleNamespace(time_remaining=left_s)).plain == text
