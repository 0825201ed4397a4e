"""Each bench measures what it says, beside its limit."""

import argparse
import json
import time

import pytest

from luffy_pl.bench import logprob, scoring
from luffy_pl.bench.machine import copy_bytes_per_s, gemm_flops, median_seconds
from luffy_pl.reward.math_verifier import MathVerifier


def test_warm_up_is_not_counted():
    pauses_s = iter([0.3, 0.3, 0.0, 0.0, 0.0])
    cpu_s, wall_s = median_seconds(lambda: time.sleep(next(pauses_s)), steps=3)
    assert wall_s < 0.1
    assert cpu_s < 0.1
    assert list(pauses_s) == []


def test_rates_of_the_machine_are_those_of_some_machine():
    assert 1e8 < gemm_flops(128) < 1e13
    assert 1e8 < copy_bytes_per_s(2**20) < 1e12


def test_the_head_beside_its_products(command_line):
    done = command_line(
        "bench", "logprob", "--tokens", "64", "--vocab", "500", "--hidden", "32", "--steps", "1"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bench"] == "logprob"
    assert found["args"]["tokens"] == 64
    assert found["fraction"] == pytest.approx(found["limit_cpu_s"] / found["step_cpu_s"])
    assert 0 < found["fraction"] < 1


def test_the_limit_leaves_out_the_product_that_is_computed_twice(monkeypatch):
    monkeypatch.setattr(logprob, "head_seconds", lambda tokens, hidden, vocab: tokens * vocab)
    args = argparse.Namespace(tokens=8, hidden=4, vocab=10, steps=1)
    assert logprob.measure(args)["limit_cpu_s"] == 80


def test_a_table_is_for_reading(command_line):
    done = command_line(
        "bench", "logprob", "--tokens", "8", "--vocab", "50", "--hidden", "8", "--steps", "1",
        "--table",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["bench", "logprob"]
    assert any(line.startswith("fraction ") for line in lines)


def test_half_of_the_answers_to_be_scored_are_right():
    args = argparse.Namespace(prompts=8, length=200)
    items = scoring.make_items(0, args)
    assert len({text for text, _ in items}) == len(items) == 64
    with MathVerifier(workers=1) as verifier:
        verdicts = verifier.grade(items)
    assert sum(verdict.correct is True for verdict in verdicts) == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "ratio"),
    [
        pytest.param(
            "rollout", ("--prompts", "2", "--max-len", "8"), "ratio", marks=pytest.mark.long
        ),
        pytest.param("sync", ("--layers", "1"), "ratio", marks=pytest.mark.long),
        ("scoring", ("--prompts", "4", "--length", "500"), "fraction"),
    ],
)
def test_what_needs_an_engine_or_workers(luffy_pl, kind, options, ratio):
    done = luffy_pl("bench", kind, *options, "--steps", "1")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bench"] == kind
    assert found[ratio] > 0
    if kind == "rollout":
        assert found["tokens"] <= 2 * 8 * 8
    if kind == "sync":
        assert found["parameters"] == 49152 * 576 + 3540096 + 576
