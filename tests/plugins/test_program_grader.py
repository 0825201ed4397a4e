"""Programs of a model: graded by what they print, and kept apart from this machine."""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from docs.pages import DOCS
from recipes.small_runs import SMALL

from luffy_pl.errors import VerifierError
from luffy_pl.records import Prompt
from luffy_pl.registry import find, load_plugins
from luffy_pl.reward.reward import RewardConfig, build_verifier
from luffy_pl.run_dir.read import read_lines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")

GRADER = DOCS / "examples" / "program_grader.py"
TESTS = [{"input": "2", "output": "4"}, {"input": "-3", "output": "9\n"}]
RIGHT = "n = int(input())\nprint(n * n)"


def block(program):
    return f"I square it.</think>\n```python\n{program}\n```"


@pytest.fixture
def grade():
    load_plugins([str(GRADER)])
    verifier = build_verifier(RewardConfig(grader="program", timeout_s=1))
    assert verifier.reads_gold is False

    def of(*texts, tests=TESTS):
        prompt = Prompt("p", "", (), "", columns={"tests": tests})
        return [
            (one.correct, one.status, one.reward)
            for one in verifier.grade([(text, prompt) for text in texts])
        ]

    return of


def test_a_program_is_right_if_it_prints_what_the_tests_say(grade):
    assert grade(
        block(RIGHT),
        block("print(int(input()) + 2)"),
        block("n = int(input()"),
        block("raise SystemExit(0)"),  # ends well and says nothing
        "The answer is 4.",
        block(RIGHT).replace("</think>", ""),
        block("while True: pass"),
    ) == [
        (True, "ok", 1.0),
        (False, "ok", 0.5),
        (False, "ok", 0.0),
        (False, "ok", 0.0),
        (False, "no_answer", None),
        (False, "no_answer", None),
        (False, "timeout", 0.0),
    ]


@pytest.fixture
def listening():
    """A server on loopback, which everything of this machine reaches."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    yield server.server_port
    server.server_close()


def test_a_program_reaches_neither_network_nor_processes_nor_secrets(
    grade, listening, monkeypatch, tmp_path
):
    monkeypatch.setenv("HF_TOKEN", "secret")
    pid, left = os.getpid(), tmp_path / "left"
    tries = [
        f"import socket; socket.create_connection(('127.0.0.1', {listening}), 1)",
        f"import os; os.kill({pid}, 0)",
        f"print(open('/proc/{pid}/environ').read())",
        "import os; os.environ['HF_TOKEN']",
        "'x' * (2 << 30)",
        "import os, time\nif os.fork() == 0:\n    time.sleep(1)\n"
        f"    open({str(left)!r}, 'w')\nraise SystemExit(1)",
    ]
    # Each would print 1 if it did what it tries.
    tests = [{"input": "", "output": "1"}]
    attempts = [block(f"{program}\nprint(1)") for program in tries]
    assert {correct for correct, *_ in grade(*attempts, tests=tests)} == {False}
    assert grade(block("print(1)"), tests=tests) == [(True, "ok", 1.0)]
    # What it prints is bounded.
    many = block("print('1' * 10**8)")
    assert grade(many, tests=tests) == [(False, "ok", 0.0)]
    threading.Event().wait(1)
    assert not left.exists()


def test_a_system_that_cannot_keep_programs_apart_is_one_line(command_line, tmp_path):
    other = tmp_path / "grader.py"
    other.write_text(GRADER.read_text().replace('"unshare", ', '"false", '))
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", "--data.reward.grader", "program",
        "--plugin", other, "--run_dir", tmp_path / "run",
    )  # fmt: skip
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2
    assert "data.reward.grader: programs cannot be kept apart from this system" in line
    assert "user.max_user_namespaces" in line


def test_namespaces_that_run_out_are_no_wrong_answer(monkeypatch):
    load_plugins([str(GRADER)])
    verifier = find("grader", "program", where="")(RewardConfig(grader="program"))
    run = verifier.function.func.__globals__
    monkeypatch.setitem(run, "run", lambda *_: (1, "", "unshare: unshare failed: No space left"))
    prompt = Prompt("p", "", (), "", columns={"tests": TESTS})
    with pytest.raises(VerifierError, match="No space left"):
        verifier.grade([(block(RIGHT), prompt)])


def test_a_run_is_paid_for_programs(command_line, byte_model, tmp_path):
    """The traces are programs, of which one passes half of its tests; no row has a gold."""
    programs = [RIGHT, "print(int(input()) + 2)"]
    rows = [
        {"prompt": f"Square {n}.", "trace": f"<think>{block(program)}", "tests": TESTS}
        for n, program in enumerate(programs)
    ]
    path, run = tmp_path / "programs.jsonl", tmp_path / "run"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = {"name": "programs", "source": {"path": str(path)}, "metrics": ["reward", "paid"]}
    done = command_line(
        "fit", "--config", "conf/quickstart.yaml", *SMALL, "--plugin", GRADER,
        "--model.policy.path", byte_model, "--data.reward.grader", "program",
        "--data.train.path", path, "--data.benchmarks", json.dumps([benchmark]),
        "--data.rollout", json.dumps({
            "num_phases": 1, "prompts_per_phase": 2, "group_size": 2, "max_response_tokens": 100,
        }),
        "--data.engine.max_model_len", "256", "--samples.groups_per_phase", "2",
        "--entropy.watched", "{}", "--run_dir", run,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rewards = {
        (line["source"], line["prompt"].partition("Square ")[2][0]): line["reward"]
        for line in read_lines(run / "rollouts" / "phase-000001.jsonl")
    }
    assert rewards[("expert", "0")] == 1.0
    assert rewards[("expert", "1")] == 0.5
    assert rewards[("rollout", "0")] == rewards[("rollout", "1")] == 0.0
    for line in read_lines(run / "evaluation.jsonl"):
        assert (line["n"], line["avg"], line["metrics"]["reward"]["value"]) == (2, 0.0, 0.0)
