"""docs/whole_path.sh: GSM8K to a served model, each step's product looked at."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
TOKENS = 64


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def out(gsm8k, smollm2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_path")
    settings = {
        "GSM8K": gsm8k, "OUT": folder, "MODEL": smollm2, "TOKENS": TOKENS, "ROWS": 32,
        "PROMPTS": 2, "PORT": free_port(), "BIN": Path(sys.executable).parent,
    }  # fmt: skip
    done = subprocess.run(
        [ROOT / "docs" / "whole_path.sh"],
        cwd=ROOT,
        env=os.environ | {name: str(value) for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def test_every_step_leaves_what_the_next_one_needs(out):
    report = json.loads((out / "data" / "data_report.json").read_text())
    assert report["rows"] == 32
    assert report["trace_tokens"]["longest"] <= TOKENS
    checked = json.loads((out / "check" / "check.json").read_text())
    assert checked["defects"] == []
    assert checked["num_right"] == checked["num_traces"] == report["fates"]["kept"]
    traces = [json.loads(line) for line in (out / "traces.jsonl").read_text().splitlines()]
    assert len(traces) == 2
    # The human solution stands behind whatever the teacher got right.
    assert all(len(row["trace"]) >= 1 and "####" in row["trace"][-1] for row in traces)
    (gsm8k,) = json.loads((out / "run" / "results.json").read_text())["benchmarks"]
    assert (gsm8k["name"], gsm8k["n"]) == ("gsm8k", 4)
    assert (out / "run" / "report.html").exists()
    assert "| gsm8k | 4 | 1 | avg@k |" in (out / "model" / "README.md").read_text()


def test_the_exported_model_answers_a_chat_request(out):
    answer = json.loads((out / "answer.json").read_text())
    assert answer["model"] == "model"
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["completion_tokens"] in range(1, 25)
