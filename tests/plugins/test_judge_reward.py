"""A judge behind an endpoint pays answers to questions without gold, in training and evaluation."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from docs.pages import DOCS
from recipes.small_runs import SMALL

from luffy_pl.errors import ConfigError, VerifierError
from luffy_pl.records import Group, Prompt, Response, Verdict
from luffy_pl.registry import find, load_plugins
from luffy_pl.run_dir.read import read_lines

JUDGE = DOCS / "examples" / "judge_reward.py"


class Judge(ThreadingHTTPServer):
    """Gives a point for each letter of the answer, up to ten; `fails` are its first replies."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails: list = []
        self.asked: list = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        text = body["messages"][0]["content"]
        reply = f" {points(text.partition('<<<answer')[2].rpartition('>>>')[0].strip())}\n"
        fail = self.server.fails.pop(0) if self.server.fails else None
        if isinstance(fail, str):
            reply = fail
        self.send_response(fail if isinstance(fail, int) else 200)
        self.end_headers()
        choice = {"message": {"role": "assistant", "content": reply}}
        self.wfile.write(json.dumps({"choices": [choice]}).encode())

    def log_message(self, *args):
        pass


def points(answer):
    return min(10, len(answer))


@pytest.fixture
def judge(monkeypatch):
    server = Judge()
    monkeypatch.setenv("JUDGE_URL", server.url)
    monkeypatch.setenv("JUDGE_MODEL", "some/judge")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def judged(judge):
    """The term without its pauses."""
    load_plugins([str(JUDGE)])
    term = find("reward", "judged", where="")
    term.__globals__["PAUSE_S"] = 0.0
    verdict = Verdict(None, "ungraded", "none", None, "")

    def of(*texts):
        prompt = Prompt("p", "Why?", (), "", columns={"rubric": "brevity"})
        rows = tuple(Response("rollout", text, (1,), "stop", verdict) for text in texts)
        return term(Group(prompt, rows, (None,) * len(rows)))

    return of


def test_equal_answers_are_asked_about_once(judge, judged):
    assert judged("abc", "a", "abc") == [0.3, 0.1, 0.3]
    assert len(judge.asked) == 2
    path, key, body = judge.asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer key", "some/judge")
    assert "by this rubric: brevity" in body["messages"][0]["content"]


@pytest.mark.parametrize("fails", [[503], [429, "none"], ["11", "no idea", 500]])
def test_a_judge_that_fails_for_a_while_is_asked_again(judge, judged, fails):
    judge.fails += fails
    assert judged("ab") == [0.2]
    assert judge.fails == []


@pytest.mark.parametrize(
    ("fails", "reason", "asked"),
    [([401], "HTTP 401", 1), ([503] * 9, "HTTP 503", 4), (["5 of 7"] * 9, "no number", 4)],
)
def test_a_judge_that_gives_no_points_is_one_line(judge, judged, fails, reason, asked):
    judge.fails += fails
    with pytest.raises(VerifierError) as caught:
        judged("ab")
    said = str(caught.value)
    assert said.startswith(f"judge: gives no points ({reason}")
    assert judge.url in said
    assert "--resume goes on" in said
    assert len(judge.asked) == asked


def test_a_judge_that_nobody_names_is_one_line(monkeypatch):
    monkeypatch.delenv("JUDGE_URL", raising=False)
    with pytest.raises(ConfigError, match=r"JUDGE_URL: is not set\. Fix: export JUDGE_URL="):
        load_plugins([str(JUDGE)])


def test_a_run_without_golds_is_paid_by_a_judge(command_line, judge, tmp_path):
    path, run = tmp_path / "questions.csv", tmp_path / "run"
    path.write_text("question,rubric\n" + "".join(f"{n}+{n}=?,brevity\n" for n in range(10, 14)))
    benchmark = {
        "name": "judged", "source": {"path": str(path), "limit": 2}, "metrics": ["reward"],
    }  # fmt: skip
    reward = ["--data.reward.grader", "none", "--data.reward.terms", "{judged: 2.0}"]
    settings = [
        "--config", "conf/quickstart.yaml", "--config", "conf/recipe/on_policy.yaml", *SMALL,
        *reward, "--plugin", JUDGE, "--data.train.path", path,
        "--data.train.require_trace", "false",
        "--data.benchmarks", json.dumps([benchmark]), "--data.rollout.num_phases", "1",
        "--data.rollout.prompts_per_phase", "2", "--data.rollout.temperature", "2.0",
        "--samples.groups_per_phase", "2",
    ]  # fmt: skip
    done = command_line("fit", *settings, "--run_dir", run)
    assert done.returncode == 0, done.stderr
    lines = read_lines(run / "rollouts" / "phase-000001.jsonl")
    assert len(lines) == 16
    for line in lines:
        assert line["reward"] == pytest.approx(points(line["response"].strip()) / 5)
        assert line["verdict"]["status"] == "ungraded"
    for line in read_lines(run / "evaluation.jsonl"):
        assert line["n"] == 0
        assert 0 < line["metrics"]["reward"]["value"] <= 2
    assert "reward" in done.stdout
    assert "nan" not in done.stdout + (run / "metrics.jsonl").read_text()
    done = command_line("validate", *settings, "--run_dir", tmp_path / "validated")
    assert done.returncode == 0, done.stderr
    [measured] = json.loads((tmp_path / "validated" / "results.json").read_text())["benchmarks"]
    assert measured["metrics"]["avg"]["value"] is None
    assert 0 < measured["metrics"]["reward"]["value"] <= 2
    judge.fails += [401] * 100
    done = command_line("validate", *settings, "--run_dir", tmp_path / "other")
    [said] = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 6
    assert "judge: gives no points (HTTP 401)" in said
    # What a grader pays cannot be paid without one.
    done = command_line("fit", *settings, "--data.reward.terms", "{correct: 1.0}")
    assert done.returncode == 2
    assert "data.reward.terms: has correct, which a grader pays" in done.stderr
