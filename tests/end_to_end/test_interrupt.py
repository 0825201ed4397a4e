"""A run that is asked to end ends at once, says so in one line, and does not claim success."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from faults.kill_runs import left_running
from forks import LUFFY_PL

from luffy_pl.run_dir.read import read_lines

pytestmark = pytest.mark.slow

WITHIN_S = 5.0
OVERLAY = """
data: {engine: {kind: hf}, rollout: {prompts_per_phase: 4, group_size: 2}}
evaluation: {before_training: false}
progress: {line_every_s: 0}
"""


@pytest.mark.case(44)
@pytest.mark.parametrize(
    ("number", "to_group", "code", "line"),
    [
        # A terminal sends Ctrl-C to the verifier's workers too.
        (signal.SIGINT, True, 130, "luffy-pl: interrupted [130]"),
        (signal.SIGTERM, False, 143, "luffy-pl: terminated [143]"),
    ],
)
def test_a_run_ends_at_a_signal(start, tmp_path, number, to_group, code, line):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(OVERLAY)
    process = start(
        "fit", "--config", "conf/quickstart.yaml", "--config", overlay,
        "--run_dir", tmp_path / "run", stderr=subprocess.PIPE,
    )  # fmt: skip
    said = []
    for text in process.stderr:
        said.append(text)
        if "phase 1/60" in text:
            break
    (os.killpg if to_group else os.kill)(process.pid, number)
    after = process.stderr.read().splitlines()
    assert process.wait(60) == code, "".join(said)
    assert after[-1] == line
    # Up to that line there may be progress of the phase that was under way, and nothing else.
    words = {text.split()[0] for text in after[:-2] if text.strip()}
    assert words <= {"generate", "score", "train", "phase", "luffy-pl:"}
    command = f"continue with: luffy-pl fit --resume --run_dir {tmp_path / 'run'}"
    assert re.fullmatch(rf"phase \d+ is saved; {command}", after[-2])
    assert read_lines(tmp_path / "run" / "metrics.jsonl")


def send(process, number):
    """A terminal sends Ctrl-C to what a command has started, too."""
    with suppress(ProcessLookupError):  # it may be so young that it has no group yet
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        return
    process.send_signal(number)


def ends_at(process, number, *, after_s, leader):
    """Signal a process that starts; what it said, and that it ended with the code of the signal."""
    time.sleep(after_s)
    if process.poll() is not None:
        return
    sent_s = time.monotonic()
    send(process, number)
    code = process.wait(60)
    said = process.stderr.read()
    assert time.monotonic() - sent_s < WITHIN_S, (after_s, said)
    if code == -number and not said:
        return  # on a busy machine Python had not come to the first line of the command
    assert code == {signal.SIGINT: 130}.get(number, 143), (after_s, said)
    assert "Traceback" not in said
    assert re.search(r"luffy-pl: (terminated|interrupted) \[\d+\]$", said.strip()), (after_s, said)
    assert left_running(leader) == 0


# Shares of a start-up; primes do not fall on one moment of it again and again.
MOMENTS = [number * 0.137 for number in range(1, 4)]
MANY = [number * 0.0731 for number in range(1, 28)]


@pytest.mark.case(49)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moments", [MOMENTS, pytest.param(MANY, marks=pytest.mark.long)])
def test_a_signal_at_any_moment_of_the_start(start, tmp_path, number, moments):
    for after_s in moments:
        process = start(
            "fit", "--config", "conf/quickstart.yaml", "--data.engine.kind", "hf",
            "--run_dir", tmp_path / f"{after_s}", stderr=subprocess.PIPE,
        )  # fmt: skip
        ends_at(process, number, after_s=after_s, leader=process.pid)


@pytest.mark.case(49)
@pytest.mark.parametrize(
    "moments", [[2.0], pytest.param([0.3 * n for n in range(1, 40)], marks=pytest.mark.long)]
)
def test_a_signal_while_python_imports(work_dir, tmp_path, moments):
    """What a fork cannot show: torch, Lightning and transformers are being loaded."""
    for after_s in moments:
        process = subprocess.Popen(
            [LUFFY_PL, "fit", "--config", "conf/quickstart.yaml", "--data.engine.kind", "hf",
             "--run_dir", tmp_path / f"{after_s}"],
            cwd=work_dir(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip
        ends_at(process, signal.SIGTERM, after_s=after_s, leader=process.pid)
