"""The one console of a run: what is printed while bars are shown stands above them.

A console of its own would write to the terminal itself, into the line of a bar.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.progress import Task as BarTask
from rich.text import Text

from luffy_pl.callbacks.remaining import clock
from luffy_pl.process.interrupt import stand_above

_bars: list[Progress] = []


def bar_lines() -> int:
    """Lines of the terminal that bars take now."""
    return sum(task.visible for task in _bars[-1].tasks) if _bars else 0


def console(**options: Any) -> Console:
    """The console of the bars that are shown, or else a new one with these options."""
    return _bars[-1].console if _bars else Console(**options)


def show_bars(*columns: ProgressColumn) -> Progress:
    """Bars that leave the screen when they are closed."""
    bars = Progress(*columns, transient=True)
    _bars.append(bars)
    stand_above(bar_lines)
    bars.start()
    return bars


def close_bars(bars: Progress) -> None:
    """Give the terminal back."""
    bars.stop()
    _bars.remove(bars)


class TimeLeft(ProgressColumn):
    """`1:20 left`; nothing while that is not known."""

    def render(self, task: BarTask) -> Text:
        """Shown behind a bar."""
        left_s = task.time_remaining
        return Text("" if not left_s else f"{clock(left_s)} left")
