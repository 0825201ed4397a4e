"""Traces from a model in this process, and from an endpoint; what a run makes of them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from traces.expected import recorded_and_expected

LOCAL = [
    "bundled:shorter.jsonl", "--teacher.model", "bundled:base", "--engine.kind", "hf",
    "--teacher.temperature", "2.0", "--teacher.samples", "8", "--teacher.max_tokens", "48",
    "--teacher.concurrency", "8", "--teacher.record_logprobs", "true", "--reward.workers", "1",
]  # fmt: skip


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """32 prompts, asked of the base of the miniature world."""
    from luffy_pl.cli import main

    out = tmp_path_factory.mktemp("teacher") / "traces.jsonl"
    assert main(["traces", "generate", *LOCAL, "--source.limit", "32", "--out", str(out)]) == 0
    return out


def test_only_right_and_whole_answers_become_traces(traces):
    from luffy_pl.reward.reward import RewardConfig, build_verifier

    rows = lines(traces)
    assert len(rows) == 32
    assert sum(row["teacher"]["samples"] for row in rows) == 32 * 8
    kept = [(text, row["answer"]) for row in rows for text in row["trace"] or ()]
    assert kept
    assert all(text.startswith("<think>") for text, _ in kept)
    with build_verifier(RewardConfig()) as verifier:
        assert all(verdict.correct is True for verdict in verifier.grade(kept))
    report = json.loads(traces.with_suffix(".report.json").read_text())
    assert report["right"] == sum(row["teacher"]["right"] for row in rows)
    assert report["traces"] == report["traces_with_logprobs"] == len(kept)


def test_recorded_logprobs_are_those_of_the_model_at_its_temperature(traces):
    for recorded, expected in recorded_and_expected(traces, temperature=2.0):
        assert recorded == pytest.approx(expected, abs=1e-4)


def test_a_run_learns_from_them_with_recorded_behaviour(traces, command_line, tmp_path):
    from recipes.small_runs import SMALL

    done = command_line(
        "fit", "--config", "conf/quickstart.yaml",
        "--config", "conf/recipe/luffy_recorded_behaviour.yaml", *SMALL,
        "--data.train.path", traces, "--data.train.columns.logprobs", "logprobs",
        "--data.rollout.num_phases", "1", "--data.rollout.prompts_per_phase", "4",
        "--evaluation.before_training", "false", "--run_dir", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = lines(tmp_path / "run" / "rollouts" / "phase-000001.jsonl")
    assert sum(row["source"] == "expert" and row["reward"] == 1.0 for row in first) == 4


def test_a_killed_command_goes_on(traces, command_line, tmp_path):
    out = tmp_path / "traces.jsonl"
    whole = traces.read_text().splitlines(keepends=True)
    out.write_text("".join(whole[:24]) + whole[24][:30])
    done = command_line("traces", "generate", *LOCAL, "--source.limit", "32", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "8 of 8 prompts" in done.stdout
    # Every draw is keyed by its prompt, so the file is the one that was not interrupted.
    assert out.read_text() == traces.read_text()


def test_given_traces_are_a_fallback(command_line, tmp_path):
    out = tmp_path / "traces.jsonl"
    done = command_line(
        "traces", "generate", "bundled:train.jsonl", *LOCAL[1:], "--source.limit", "4",
        "--teacher.given", "fallback", "--teacher.samples", "1", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = lines(out)
    assert all(len(row["trace"]) == 1 for row in rows)
    unsolved = [row for row in rows if row["teacher"]["right"] == 0]
    assert unsolved
    assert all(row["logprobs"] == [None] for row in unsolved)


class Endpoint(BaseHTTPRequestHandler):
    """Chat completions: the first answer is right, the second wrong, the third cut off."""

    asked: list = []  # noqa: RUF012

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(asked)
        a, b = asked["messages"][-1]["content"].split("+")
        right = f"\\boxed{{{int(a) + int(b)}}}"
        texts = [("a sum", right, "stop"), (None, "\\boxed{0}", "stop"), (None, right, "length")]
        choices = [
            {
                "index": n, "finish_reason": reason, "logprobs": None,
                "message": {"role": "assistant", "content": text, "reasoning": thought},
            }
            for n, (thought, text, reason) in enumerate(texts)
        ]  # fmt: skip
        usage = {"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": 40}
        reply = {
            "id": "1", "object": "chat.completion", "created": 0, "model": asked["model"],
            "choices": choices, "usage": usage,
        }  # fmt: skip
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{n}+1", "answer": str(n + 1), "id": f"s{n}"} for n in range(5)]
    rows[4]["answer"] = "99"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_endpoint_is_a_teacher(endpoint, sums, command_line, tmp_path):
    out = tmp_path / "traces.jsonl"
    done = command_line(
        "traces", "generate", sums, "--teacher.endpoint", endpoint, "--teacher.model", "r1",
        "--teacher.samples", "3", "--teacher.price_in", "1", "--teacher.price_out", "10",
        "--teacher.concurrency", "2", "--source.system_prompt", "Think.", "--out", out,
        "--teacher.chat_template_kwargs", "{enable_thinking: true}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = lines(out)
    assert [row["id"] for row in rows] == [f"s{n}" for n in range(5)]
    assert rows[2]["trace"] == ["<think>\na sum\n</think>\n\n\\boxed{3}"]
    assert rows[2]["teacher"] == {
        "model": "r1", "file": "sums.jsonl", "row": 3,
        "samples": 3, "right": 1, "cut": 1, "tokens": 30,
    }  # fmt: skip
    assert rows[4]["trace"] is None
    assert {len(asked["messages"]) for asked in Endpoint.asked} == {2}
    assert Endpoint.asked[0]["n"] == 3
    assert Endpoint.asked[0]["chat_template_kwargs"] == {"enable_thinking": True}
    # 5 prompts: 50 tokens in at 1, 150 out at 10 a million.
    assert "price 0.00155" in done.stdout
    assert "4 of 15 answers right, 5 cut off" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--teacher.chat_template_kwargs", "{enable_thinking: true}"], 2,
         "teacher.chat_template_kwargs: names something that the chat template does not read"),
        # Said before any prompt is asked, and so before any is paid for.
        (["--engine.max_model_len", "8"], 3, "shorter.jsonl:1: the prompt has "),
    ],
)  # fmt: skip
def test_what_a_local_teacher_cannot_be_asked(command_line, tmp_path, args, code, says):
    out = tmp_path / "traces.jsonl"
    done = command_line("traces", "generate", *LOCAL, *args, "--out", out)
    assert done.returncode == code
    assert says in done.stderr
    assert not out.exists() or not out.read_text()


def test_an_endpoint_that_is_not_there_is_one_line(sums, command_line, tmp_path, monkeypatch):
    monkeypatch.setattr("luffy_pl.traces.endpoint.RETRIES", 0)
    done = command_line(
        "traces", "generate", sums, "--teacher.endpoint", "http://127.0.0.1:9/v1",
        "--teacher.model", "r1", "--out", tmp_path / "traces.jsonl",
    )  # fmt: skip
    assert done.returncode == 5
    assert "teacher.endpoint: does not answer" in done.stderr
    assert "Traceback" not in done.stderr
