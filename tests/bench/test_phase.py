"""`luffy-pl bench phase` is a run of `fit`, and reads its figures off the run's metrics."""

import argparse
import json
from pathlib import Path

import pytest

from luffy_pl import registry
from luffy_pl.api import run as api
from luffy_pl.api.run import Run
from luffy_pl.bench import phase
from luffy_pl.cli import main

SMALL = (
    "--model", "bundled:base", "--data", "bundled:train.jsonl", "--prompts", "2", "--group", "2",
    "--max-new", "8", "--phases", "3", "--steps", "1",
)  # fmt: skip
KEYS = {"side", "phase_s", "phase_cpu_s", "phases", "mean_tokens", "peak_rss_mib", "args"}


@pytest.mark.runs
@pytest.mark.parametrize("more", [(), ("--anywhere",)])
def test_a_run_on_the_given_model_and_rows(command_line, monkeypatch, more):
    monkeypatch.setattr(api, "run_command", main)
    done = command_line("bench", "phase", *SMALL, *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    assert set(found) > KEYS
    assert found["side"] == "luffy_pl"
    assert found["args"]["anywhere"] is bool(more)
    assert found["args"]["lr"] == 1e-6
    assert found["phases"] == 1
    assert found["phase_cpu_s"] > 0
    assert 0 < found["generate_s"] + found["train_s"] < found["phase_s"]
    assert 0 < found["mean_tokens"] <= 8


def test_the_first_two_phases_do_not_count(monkeypatch):
    seconds = [9.0, 8.0, 1.0, 2.0, 6.0]
    started = []

    def fit(config, *overlays, overrides, plugins):
        started.append((json.loads(config.read_text()), [Path(file).name for file in plugins]))
        return Run(Path("nowhere"))

    rows = [{"phase": 0, "timing_s/sync": 0.5}] + [
        {
            "phase": number + 1,
            **{f"timing_s/{name}": s for name in ("phase", "phase_cpu", "generate", "train")},
            "timing_s/sync": 0.25,
            "response_length/mean": 10.0 * number,
        }
        for number, s in enumerate(seconds)
    ]
    monkeypatch.setattr(phase, "fit", fit)
    monkeypatch.setattr(Run, "metrics", rows)
    args = argparse.Namespace(
        model="bundled:base", data="rows.jsonl", prompts=3, group=4, max_new=5, phases=5, steps=2,
        lr=0.5, anywhere=True, engine="vllm",
    )  # fmt: skip
    found = phase.measure(args)
    assert (found["phase_s"], found["phases"], found["mean_tokens"]) == (2.0, 3, 20.0)
    [(config, plugins)] = started
    assert plugins == ["anywhere.py"]
    assert config["data"]["rollout"] == {
        "num_phases": 5, "prompts_per_phase": 3, "group_size": 4, "max_response_tokens": 5,
    }  # fmt: skip
    assert config["data"]["engine"] == {"kind": "vllm"}
    assert config["model"]["optimizer"]["steps_per_phase"] == 2


def test_logits_of_a_micro_batch_can_be_kept(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 65536}')
    assert phase.micro_batch_tokens(str(tmp_path)) == 512
    assert phase.micro_batch_tokens("bundled:base") == 16384


def test_a_gold_is_found_anywhere():
    registry.load_plugins([str(phase.ANYWHERE)])
    grade = registry.find("grader", "anywhere", where="here")
    registry.load_plugins([])
    assert grade(None, "so 12 it is", "12").correct is True
    assert grade(None, "so 13 it is", "12").correct is False


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (("--phases", "2"), "--phases"),
        (("--group", "0"), "--group"),
        (("--model", "no/such/folder"), "--model"),
        (("--lr", "fast"), "--lr"),
    ],
)
def test_a_mistake_is_one_line(command_line, options, where):
    done = command_line("bench", "phase", *SMALL, *options)
    assert done.returncode in (2, 4)
    assert done.stderr.count("\n") == 1
    assert where in done.stderr
