r"""What large files, many traces and large groups cost: CPU time, and peak memory, of each command.

    python experiments/learner/large.py [--rows 10000 100000 1000000] [--only read verify]

Every command is a process of its own and works on files that are made here, in a temporary folder
(2 GB of the largest size). `us each` is CPU time beyond that of the smallest size, for each further
item; memory is flat, and time linear, where the last two columns stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from luffy_pl.bench.start import CONFIG, PHASE

ROWS = (10_000, 100_000, 1_000_000)
TRACES = (1, 10, 100)
GROUPS = (8, 16, 32, 64)
PROMPTS, ROLLOUTS, PHASES = 2000, 256, 3
TERMS = 16
LUFFY_PL = [sys.executable, "-m", "luffy_pl.cli"]


@dataclass(frozen=True)
class Cost:
    """What a process took, with those that it started; its first phase counts from its start."""

    cpu_s: float
    wall_s: float
    peak_mib: int
    first_phase_s: float | None


def main() -> None:
    """Print a line for each command and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    sys.stdout.write(
        f"{'':8}{'size':>9}{'CPU s':>9}{'wall s':>9}{'phase s':>9}{'us each':>9}{'peak MiB':>10}\n"
    )
    for kind in args.only:
        first: tuple[int, float] | None = None
        for size, items, cost in KINDS[kind](args.rows):
            first = first or (items, cost.cpu_s)
            more = items - first[0]
            each = f"{1e6 * (cost.cpu_s - first[1]) / more:9.1f}" if more else f"{'':9}"
            phase = f"{cost.first_phase_s:9.1f}" if cost.first_phase_s else f"{'':9}"
            sys.stdout.write(
                f"{kind:8}{size:9d}{cost.cpu_s:9.1f}{cost.wall_s:9.1f}{phase}{each}"
                f"{cost.peak_mib:10d}\n"
            )
            sys.stdout.flush()


def verified(rows: Sequence[int]) -> Iterator[tuple[int, int, Cost]]:
    """`luffy-pl verify`: half of the answers are right, and none is like another."""
    for num in rows:
        with TemporaryDirectory() as folder:
            pairs, out = Path(folder) / "pairs.jsonl", Path(folder) / "out.jsonl"
            lines = ({"prediction": response(n), "gold": str(n)} for n in range(num))
            write_lines(pairs, lines)
            yield num, num, run("verify", "--pairs", pairs, "--out", out)


def paged(command: str) -> Callable[[Sequence[int]], Iterator[tuple[int, int, Cost]]]:
    """The page of a run with so many answers, eight to a problem."""

    def of_rows(rows: Sequence[int]) -> Iterator[tuple[int, int, Cost]]:
        for num in rows:
            with TemporaryDirectory() as folder:
                write_lines(Path(folder) / "metrics.jsonl", [{"step": 0, "reward": 0.5}])
                answers = Path(folder) / "test" / "answers"
                answers.mkdir(parents=True)
                write_lines(answers / "held-0.jsonl", map(answer_line, range(num)))
                page = Path(folder) / "page.html"
                yield num, num, run(command, folder, "--html", page)

    return of_rows


def read(rows: Sequence[int]) -> Iterator[tuple[int, int, Cost]]:
    """`luffy-pl fit` from Enter to its first phase; the phase itself is four short answers."""
    for num in rows:
        yield num, num, trained(question_lines(num, num_traces=0), group_size=2)


def traced(_: Sequence[int]) -> Iterator[tuple[int, int, Cost]]:
    """The same on prompts that have many expert traces."""
    for num in TRACES:
        lines = question_lines(PROMPTS, num_traces=num)
        yield num, num * PROMPTS, trained(lines, group_size=2, expert=1)


def grouped(_: Sequence[int]) -> Iterator[tuple[int, int, Cost]]:
    """Phases of as many rollouts in fewer, larger groups; the items are not more."""
    for size in GROUPS:
        lines = question_lines(PROMPTS, num_traces=1)
        cost = trained(
            lines, group_size=size, expert=1, prompts=ROLLOUTS // size, num_phases=PHASES
        )
        yield size, ROLLOUTS * PHASES, cost


KINDS: dict[str, Callable[[Sequence[int]], Iterator[tuple[int, int, Cost]]]] = {
    "verify": verified,
    "report": paged("report"),
    "view": paged("view"),
    "read": read,
    "traces": traced,
    "group": grouped,
}


def trained(
    lines: Iterator[dict[str, Any]],
    *,
    group_size: int,
    expert: int = 0,
    prompts: int = 2,
    num_phases: int = 1,
) -> Cost:
    """A run on these rows with the engine `hf`."""
    with TemporaryDirectory() as folder:
        write_lines(Path(folder) / "train.jsonl", lines)
        settings = {
            "run_dir": f"{folder}/run",
            "data.train.path": f"{folder}/train.jsonl",
            "data.engine.kind": "hf",
            "data.engine.max_model_len": 160,
            "data.rollout.group_size": group_size,
            "data.rollout.expert_traces_per_group": expert,
            "data.rollout.prompts_per_phase": prompts,
            "data.rollout.num_phases": num_phases,
        }
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(CONFIG))
        given = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return run("fit", "--config", config, *given)


def run(*arguments: object) -> Cost:
    """A command, from its start to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("DISPLAY", None)  # nothing opens a browser
    started_s, first_phase_s, said = time.perf_counter(), None, ""
    process = subprocess.Popen(
        [*LUFFY_PL, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if first_phase_s is None and line.startswith(PHASE):
            first_phase_s = time.perf_counter() - started_s
        said = line
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, arguments))}: {said}")
    return Cost(
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.perf_counter() - started_s,
        peak_mib=usage.ru_maxrss // 1024,
        first_phase_s=first_phase_s,
    )


def write_lines(path: Path, lines: Sequence[dict[str, Any]] | Iterator[dict[str, Any]]) -> None:
    """JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def question_lines(num: int, *, num_traces: int) -> Iterator[dict[str, Any]]:
    """Sums in the words of the bundled model, and traces of 20 tokens that reach them."""
    draw = random.Random(0)
    for number in range(num):
        terms = [draw.randrange(1, 10) for _ in range(TERMS)]
        traces = [
            f"<think>so{first}+{number % 90 + 10}=now{sum(terms)}</think>\\boxed{{{sum(terms)}}}"
            for first in range(num_traces)
        ]
        yield {
            "prompt": f"{number}+{'+'.join(map(str, terms))}=?",
            "answer": str(number + sum(terms)),
            **({"trace": traces} if traces else {}),
        }


def answer_line(number: int) -> dict[str, Any]:
    """A graded answer as `luffy-pl test` writes it."""
    right = number % 2 == 0
    return {
        "prompt_id": f"held/{number // 8}", "prompt": f"What is {number // 8} + 1?",
        "source": "rollout", "response": response(number), "finish_reason": "stop",
        "tokens": 100 + number % 900, "reward": float(right), "advantage": None,
        "verdict": {
            "correct": right, "status": "ok", "tier": "rational", "extracted": str(number),
            "gold": str(number + number % 2), "ms": 0.1, "reward": None,
        },
    }  # fmt: skip


def response(number: int) -> str:
    """Some 400 characters that end with a number, or with one more where it is odd."""
    thought = f"We add {number} to what we had, and look at the sum again before we go on. " * 6
    return f"{thought}The answer is \\boxed{{{number + number % 2}}}."


if __name__ == "__main__":
    main()
