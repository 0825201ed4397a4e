"""How far an evaluation is, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALL = "all"


@dataclass
class Remaining:
    """Answers of one rank, by benchmark; what it says of a benchmark holds for `ALL` of them too.

    total: answers to give.
    done: answers that are there; those an earlier start left count as done, but say nothing
        about how fast this one is.
    """

    total: Mapping[str, int]
    done: dict[str, int]
    started_s: dict[str, float] = field(default_factory=dict)
    at_first: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, *, now_s: float) -> None:
        """A benchmark begins, or `ALL` of them; later calls change nothing."""
        self.at_first.setdefault(name, self.counts(name)[0])
        self.started_s.setdefault(name, now_s)

    def counts(self, name: str) -> tuple[int, int]:
        """Answers that are there, and all."""
        if name == ALL:
            return sum(self.done.values()), sum(self.total.values())
        return self.done[name], self.total[name]

    def seconds_left(self, name: str, *, now_s: float) -> float | None:
        """At the mean speed since the start; None before the first answer."""
        done, total = self.counts(name)
        fresh = done - self.at_first[name]
        return (now_s - self.started_s[name]) / fresh * (total - done) if fresh > 0 else None

    def text(self, name: str, *, now_s: float) -> str:
        """`128/1024 answers, 3:20 left`."""
        done, total = self.counts(name)
        left_s = self.seconds_left(name, now_s=now_s)
        ending = "" if left_s is None or done == total else f", {clock(left_s)} left"
        return f"{done}/{total} answers{ending}"

    def line(self, name: str, *, now_s: float) -> str:
        """A benchmark and, where there are several, all of them."""
        line = f"{name} {self.text(name, now_s=now_s)}"
        return f"{line}; {ALL} {self.text(ALL, now_s=now_s)}" if len(self.total) > 1 else line


def clock(seconds: float) -> str:
    """Minutes and seconds, hours where there are any: 3:20, 1:03:20."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
