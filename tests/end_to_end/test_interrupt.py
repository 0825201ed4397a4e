"""A run that is asked to end ends at once, says so in one line, and does not claim success."""

import os
import re
import signal
import subprocess

import pytest

from luffy_pl.run_dir.read import read_lines

pytestmark = pytest.mark.slow

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
    command = f"continue with: luffy-pl fit --resume true --run_dir {tmp_path / 'run'}"
    assert re.fullmatch(rf"phase \d+ is saved; {command}", after[-2])
    assert read_lines(tmp_path / "run" / "metrics.jsonl")
