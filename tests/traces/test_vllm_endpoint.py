"""`luffy-pl serve --chat`: what a card promises of it, and as a teacher: of traces, and of tokens
that the policy sampled.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import torch
from forks import LUFFY_PL
from recipes.small_runs import SMALL

from luffy_pl.bundled import resolve
from luffy_pl.data.tokenizer import load_tokenizer
from luffy_pl.errors import ModelError
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.rollout.scoring_server import ScoringServer, ServedModel
from luffy_pl.run_dir.read import read_metrics
from traces.expected import recorded_and_expected

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The base of the miniature world behind a port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "serve.log").open("w+")
    command = [
        LUFFY_PL, "serve", "bundled:base", "--chat", "--port", str(port),
        "--dtype", "float32", "--max-model-len", "96",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=dict(os.environ), stdout=log, stderr=log)
    try:
        while True:
            if process.poll() is not None:
                log.seek(0)
                pytest.fail(log.read()[-3000:])
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def test_recorded_logprobs_of_an_endpoint(server, command_line, tmp_path):
    out = tmp_path / "traces.jsonl"
    done = command_line(
        "traces", "generate", "bundled:shorter.jsonl", "--teacher.endpoint", server,
        "--teacher.model", "base", "--teacher.temperature", "1.5", "--teacher.samples", "8",
        "--teacher.max_tokens", "48", "--teacher.record_logprobs", "true",
        "--tokenizer", resolve("bundled:base"), "--source.limit", "8", "--out", out,
        "--reward.workers", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = list(recorded_and_expected(out, temperature=1.5))
    assert pairs
    for recorded, expected in pairs:
        assert recorded == pytest.approx(expected, abs=1e-4)


def post(url, **body):
    """The answer to a request: its lines."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode().splitlines()


def streamed(lines):
    """The pieces of a streamed answer."""
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event)["choices"][0] for event in events[:-1]]


ONE_STEP = "so27-6=21</think>\\boxed{21}"


def test_chat_completions(server):
    """Rendered by the model's template, which opens the thought; whole and streamed."""
    asked = {
        "model": "base", "messages": [{"role": "user", "content": "27-6=?"}], "temperature": 0,
        "skip_special_tokens": False,
    }  # fmt: skip
    [line] = post(f"{server}/chat/completions", **asked)
    [choice] = json.loads(line)["choices"]
    assert choice["message"]["content"].removesuffix("<eos>") == ONE_STEP
    assert choice["finish_reason"] == "stop"
    pieces = streamed(post(f"{server}/chat/completions", **asked, stream=True))
    assert len(pieces) > 3
    text = "".join(piece["delta"].get("content") or "" for piece in pieces)
    assert text.removesuffix("<eos>") == ONE_STEP


def test_completions(server):
    asked = {
        "model": "base", "prompt": "<user>27-6=?<assistant><think>", "temperature": 0,
        "max_tokens": 48, "add_special_tokens": False, "skip_special_tokens": False,
    }  # fmt: skip
    [line] = post(f"{server}/completions", **asked)
    assert json.loads(line)["choices"][0]["text"].removesuffix("<eos>") == ONE_STEP
    pieces = streamed(post(f"{server}/completions", **asked, stream=True))
    assert "".join(piece["text"] for piece in pieces).removesuffix("<eos>") == ONE_STEP


@pytest.mark.parametrize("route", ["pause", "reset_prefix_cache", "update_weights", "sleep"])
def test_a_server_for_people_takes_no_weights(server, route):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(f"{server.removesuffix('/v1')}/{route}")
    assert caught.value.code == 404


PROBE = "<user>27-6=?<assistant><think>"


def check_tokenizer(teacher, path):
    tokenizer = load_tokenizer(resolve(path))
    ids = tokenizer.encode(PROBE, add_special_tokens=False)
    vocabulary = sorted(tokenizer.get_vocab().values())
    teacher.check_tokenizer(vocabulary, tokenizer.decode, (PROBE, ids))


@torch.no_grad()
def test_it_scores_tokens_as_the_same_model_here(server):
    """Any tokens: likely ones, unlikely ones, and rows of every length that fits."""
    path = resolve("bundled:base")
    teacher = ScoringServer("teacher", ServedModel(server))
    assert (teacher.model, teacher.window) == ("base", 95)
    tokenizer, policy = load_tokenizer(path), load_policy(PolicyConfig(path=path), path).eval()
    generator = torch.Generator().manual_seed(0)
    rows = [tokenizer.encode(f"{PROBE}{ONE_STEP}<eos>", add_special_tokens=False)] + [
        torch.randint(0, len(tokenizer), (length,), generator=generator).tolist()
        for length in (2, 17, 64, 95)
    ]
    scores = teacher.logprobs(rows, on_progress=lambda done, total: None)
    for ids, found in zip(rows, scores, strict=True):
        mask_1T = torch.ones(1, len(ids) - 1, dtype=torch.bool)
        logprob_1T, _ = policy(
            torch.tensor([ids]), mask_1T, num_tokens=(len(ids),), temperature=1.0
        )
        assert found == pytest.approx(logprob_1T[0].tolist(), abs=1e-4)


def test_its_tokenizer_is_compared(server):
    teacher = ScoringServer("teacher", ServedModel(server))
    check_tokenizer(teacher, "bundled:base")
    with pytest.raises(ModelError, match="the tokenizer of base is not the policy's: token"):
        check_tokenizer(teacher, "bundled:middle/base")


@pytest.mark.parametrize("recipe", ["opd", "opsd", "kdrl"])
def test_a_recipe_trains_with_it_as_with_the_same_teacher_here(
    server, command_line, tmp_path, recipe
):
    use = "kl" if recipe == "kdrl" else "distillation"
    teachers = {
        "here": '{weights: path, path: "bundled:base"}',
        "server": f'{{weights: server, path: null, url: "{server}"}}',
    }
    found = {}
    for where, teacher in teachers.items():
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml",
            *SMALL, "--data.rollout.num_phases", "3", f"--model.objective.{use}.model", "teacher",
            "--model.frozen.teacher", teacher, "--run_dir", tmp_path / where,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[where] = read_metrics(tmp_path / where / "metrics.jsonl")[0]
    name = "actor/kl_loss" if recipe == "kdrl" else "actor/teacher_gap"
    for phase in (1, 2, 3):
        assert found["server"][phase][name] == pytest.approx(found["here"][phase][name], abs=1e-4)
    assert found["server"][3][name] != 0
