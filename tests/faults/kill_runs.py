"""Runs that are killed at random moments and continued, compared with one that nobody disturbed.

PYTHONPATH=tests python -m faults.kill_runs --runs 20

Everything is imported once, and each start is a fork of that process which runs the command line:
the same code without ten seconds of imports. Moments are drawn from a seed, which is a new one
unless it is given; what a run was doing when it was hit is read from its status.json. The
verifier's workers run, but compare as text: the deadlines of sympy count seconds of a clock, so a
busy machine would decide verdicts.

A run that samples one phase ahead promises less: it samples its first phase after a resume again,
from newer weights. It is the undisturbed run up to where it was first resumed, and whole.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from recipes.small_runs import EXGRPO, SMALL, SOLVED_SOMETIMES
from same_run import differences, doubled, evaluations, numbers, rollouts

import luffy_pl.rollout.hf_engine
import luffy_pl.run.command  # noqa: F401
from faults.same_text import same_text
from luffy_pl.cli import main as luffy_pl_main
from luffy_pl.reward import math_verifier
from luffy_pl.reward.pool import ComparisonPool
from luffy_pl.run_dir.checkpoints import FOLDER, newest

ROOT = Path(__file__).parents[2]
PHASES = 4
AHEAD = "one_step_off"
# Every recipe with a memory of its own, one without, guidance by prefixes, and sampling ahead.
RECIPES = {
    "luffy": [],
    "exgrpo": EXGRPO,
    "relift": ["--data.rollout.imitation_buffer", "10"],
    "dapo": SOLVED_SOMETIMES,
    "adaptive_entropy": [],
    "kl_in_reward": SOLVED_SOMETIMES,
    "sft_then_rl": ["--data.rollout.sft_phases", "2"],
    "prefix_rft": [],
    AHEAD: [],
}
FILES = {AHEAD: ["recipe/truncated_importance_sampling", f"hardware/{AHEAD}"]}
SETTINGS = [
    *SMALL,
    "--data.rollout.num_phases", str(PHASES),
    "--data.rollout.prompts_per_phase", "6",
    "--data.rollout.group_size", "4",
    "--data.benchmarks",
    '[{"name": "heldout", "source": {"path": "bundled:heldout.jsonl", "limit": 4}}]',
    "--evaluation.every_n_phases", "2",
    "--checkpoint.every_n_phases", "1",
    "--heartbeat.every_s", "0.05",
    # A machine that is busy must not decide a verdict.
    "--data.reward.timeout_s", "120",
]  # fmt: skip
EXPECTED = {signal.SIGKILL: (-9, 0), signal.SIGTERM: (143, -15, 0)}
"""Codes by signal. 0: the run had ended. -15: the fork had not yet come to the first line of the
command, and Python was ended by the signal itself; a shell says 143 of both."""
FIELDS = [
    "run", "recipe", "signal", "hit_phase", "hit_stage", "code", "reaction_s", "resumed_after",
    "starts", "left_running", "skipped", "differences",
]  # fmt: skip


@dataclass
class Start:
    """One process of a run."""

    pid: int
    began: float = field(default_factory=time.monotonic)
    code: int | None = None

    def ended(self) -> bool:
        """Whether it is gone; then `code` is its exit code, or minus the signal that ended it."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, timeout_s: float) -> int:
        """The exit code."""
        deadline = time.monotonic() + timeout_s
        while not self.ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} did not end within {timeout_s} s")
            time.sleep(0.005)
        return self.code


class Times(NamedTuple):
    """Of a run that nobody disturbs, in seconds."""

    load_s: float
    phase_s: float


def start(args: list[str], log: Path) -> Start:
    """`luffy-pl ARGS` in a fork, a session of its own, its output in a file."""
    pid = os.fork()
    if pid:
        return Start(pid)
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        code = luffy_pl_main(args)
    except SystemExit as left:  # a finished run starts nothing
        code = left.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def session(leader: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name in brackets: state, parent, group, session.
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def left_running(leader: int, within_s: float = 90.0) -> int:
    """Children that outlive their parent; one that was just being started has to import first."""
    deadline = time.monotonic() + within_s
    while (alive := session(leader)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    return len(alive)


def phases_trained(run_dir: Path) -> int:
    """By the files of rollouts, each written when its phase is trained."""
    return len(list((run_dir / "rollouts").glob("phase-*.jsonl")))


def wait_for_moment(process: Start, run_dir: Path, choose: random.Random, times: Times) -> None:
    """Until the moment that `choose` gives: within a phase, or within a save."""
    # 0 is the start as well, which is as long as some phases.
    wanted, share = choose.choice((0, *range(PHASES))), choose.random()
    in_save = choose.random() < 0.2
    has_begun = phases_trained(run_dir) > 0
    delay_s = share * (times.phase_s if wanted or has_begun else times.load_s + times.phase_s)
    while not process.ended() and phases_trained(run_dir) < wanted:
        time.sleep(0.002)
    if in_save:
        checkpoints = run_dir / FOLDER
        while not process.ended() and not list(checkpoints.glob(".partial-*")):
            pass
        return
    deadline = time.monotonic() + delay_s
    while not process.ended() and time.monotonic() < deadline:
        time.sleep(0.002)


def stage_of(run_dir: Path) -> tuple[int, str]:
    """What a run says it does: phases trained, stage."""
    if list((run_dir / FOLDER).glob(".partial-*")):
        return phases_trained(run_dir), "save"
    try:
        status = json.loads((run_dir / "status.json").read_text())
    except (OSError, ValueError):
        return 0, "load"
    return status["phase"], status["stage"]


def command(recipe: str, run_dir: Path) -> list[str]:
    """The first start of a run."""
    names = ["quickstart", *FILES.get(recipe, [f"recipe/{recipe}"])]
    files = [word for name in names for word in ("--config", f"conf/{name}.yaml")]
    return ["fit", *files, *SETTINGS, *RECIPES[recipe], "--run_dir", str(run_dir)]


def undisturbed(recipe: str, folder: Path) -> tuple[Path, Times]:
    """The run that nobody kills, and how long it took."""
    run_dir = folder / f"whole-{recipe}"
    process = start(command(recipe, run_dir), folder / f"whole-{recipe}.log")
    assert process.wait(1200) == 0, (folder / f"whole-{recipe}.log").read_text()[-2000:]
    files = sorted((run_dir / "rollouts").glob("phase-*.jsonl"))
    phase_s = (files[-1].stat().st_mtime - files[0].stat().st_mtime) / (PHASES - 1)
    return run_dir, Times(time.monotonic() - process.began - PHASES * phase_s, phase_s)


def killed(number: int, recipe: str, folder: Path, whole: Path, times: Times, seed: int) -> dict:
    """One run: killed once or twice, continued until it is finished."""
    choose = random.Random(f"{seed}-{number}")
    run_dir, log = folder / f"run-{number}", folder / f"run-{number}.log"
    hits, left, skipped, args = [], 0, [], command(recipe, run_dir)
    wanted, starts = choose.choice((1, 1, 2)), 0
    while len(hits) < wanted:
        sent = choose.choice((signal.SIGKILL, signal.SIGTERM))
        process, starts = start(args, log), starts + 1
        wait_for_moment(process, run_dir, choose, times)
        if process.ended():  # it was faster than the moment: another one, of a run not yet hit
            assert process.code == 0, log.read_text()[-2000:]
            if hits:
                break
            shutil.rmtree(run_dir)
            continue
        where, hit_s = stage_of(run_dir), time.monotonic()
        os.kill(process.pid, sent)
        code = process.wait(600)
        reaction_s = time.monotonic() - hit_s
        left += left_running(process.pid)
        saved, not_whole = newest(run_dir / FOLDER)
        skipped += not_whole
        hits.append((sent, *where, code, round(reaction_s, 2), saved.phase if saved else 0))
        has_begun = (run_dir / "config.yaml").exists()
        args = ["fit", "--resume", "--run_dir", str(run_dir)] if has_begun else args
    if process.code != 0:
        process, starts = start(args, log), starts + 1
        assert process.wait(1200) == 0, log.read_text()[-2000:]
        left += left_running(process.pid)
    columns = list(zip(*hits, strict=True))
    if recipe == AHEAD:
        found = differences_until(min(columns[-1]), whole, run_dir)
    else:
        found = differences(whole, run_dir)
    row = {
        "run": number,
        "recipe": recipe,
        "signal": " ".join(signal.Signals(one).name for one in columns[0]),
        "starts": starts,
        "left_running": left,
        "skipped": len(skipped),
        "differences": " ".join(found) or "none",
    }
    names = ("hit_phase", "hit_stage", "code", "reaction_s", "resumed_after")
    return row | {
        name: " ".join(map(str, column)) for name, column in zip(names, columns[1:], strict=True)
    }


def differences_until(phase: int, whole: Path, run_dir: Path) -> list[str]:
    """What is not the same up to a phase, and what of all phases is missing or there twice."""
    found = doubled(run_dir)
    for compare in (numbers, rollouts, evaluations):
        one, two = compare(whole), compare(run_dir)
        if one.keys() != two.keys():
            found.append(f"{compare.__name__}: phases")
        early = [key for key in one if phase_in(key) <= phase]
        if any(one[key] != two.get(key) for key in early):
            found.append(compare.__name__)
    saved, skipped = newest(run_dir / FOLDER)
    return [*found, *skipped, *([] if saved and saved.phase == PHASES else ["not finished"])]


def phase_in(key: object) -> int:
    """Of a key of metrics, of evaluations, or a name of a file of rollouts."""
    if isinstance(key, str):
        return int(key.removeprefix("phase-").removesuffix(".jsonl"))
    return key[0] if isinstance(key, tuple) else key


def kill_runs(runs: int, folder: Path, *, seed: int = 0, first: int = 0) -> list[dict]:
    """All rows; folders of runs that are the same are removed."""
    os.chdir(ROOT)
    math_verifier.compare_symbolically = same_text
    ComparisonPool._self_test = lambda self: None
    recipes, wholes, rows = list(RECIPES), {}, []
    for number in range(first, first + runs):
        recipe = recipes[number % len(recipes)]
        if recipe not in wholes:
            wholes[recipe] = undisturbed(recipe, folder)
        row = killed(number, recipe, folder, *wholes[recipe], seed)
        rows.append(row)
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        if row["differences"] == "none":
            shutil.rmtree(folder / f"run-{number}")
    return rows


def is_good(row: dict) -> bool:
    """The same run, by codes that say what happened, and nothing left behind."""
    signals, codes = row["signal"].split(), map(int, row["code"].split())
    as_expected = all(
        code in EXPECTED[signal.Signals[name]] for name, code in zip(signals, codes, strict=True)
    )
    nothing_left = int(row["left_running"]) == 0 and int(row["skipped"]) == 0
    return row["differences"] == "none" and as_expected and nothing_left


def table(rows: list[dict]) -> str:
    """Markdown, one row for each run."""
    cells = [[row.get(name, "") for name in FIELDS] for row in rows]
    lines = [FIELDS, ["---"] * len(FIELDS), *cells]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def main() -> int:
    """Write the table; 0 if every run is the one that was not killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="of the moments; by default a new one")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments/reliability/results.csv")
    parser.add_argument("--folder", type=Path, help="for the runs; by default a temporary one")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill-runs-"))
    folder.mkdir(parents=True, exist_ok=True)
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    sys.stdout.write(f"--seed {seed}\n")
    rows = kill_runs(args.runs, folder, seed=seed, first=args.first)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    goes_on = args.first > 0 and args.out.exists()
    with args.out.open("a" if goes_on else "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        if not goes_on:
            writer.writeheader()
        writer.writerows(rows)
    good = sum(map(is_good, rows))
    sys.stdout.write(table(rows))
    sys.stdout.write(f"{good} of {len(rows)} runs are the one that was not killed\n")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
