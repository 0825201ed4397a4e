"""Evaluation of a real model on real data: SmolLM2-135M, 32 problems of GSM8K, 4 answers to each.

Killed half-way through and continued, it is the evaluation that was not.
"""

import json

import pytest
from kill import kill_when

from luffy_pl.run_dir.read import read_lines

pytestmark = pytest.mark.long

PROBLEMS, SAMPLES, CHUNK, MAX_TOKENS = 32, 4, 32, 48
OVERLAY = """
data:
  rollout: {{max_response_tokens: {max_tokens}}}
  answers_per_chunk: {chunk}
  benchmarks:
    - name: gsm8k
      source:
        path: {path}
        schema: gsm8k
        system_prompt: >-
          Answer with the number alone. Example: "Tom has 2 apples and buys 3 more. How many does he
          have?" Answer: "#### 5"
        limit: {problems}
      samples_per_problem: {samples}
      temperature: 0.6
"""


@pytest.fixture(scope="module")
def validate(gsm8k, smollm2, tmp_path_factory):
    """Arguments of the evaluation, for a run folder of a name."""
    folder = tmp_path_factory.mktemp("smollm2")
    overlay = folder / "overlay.yaml"
    overlay.write_text(
        OVERLAY.format(
            path=gsm8k / "test.jsonl",
            problems=PROBLEMS,
            samples=SAMPLES,
            chunk=CHUNK,
            max_tokens=MAX_TOKENS,
        )
    )

    def arguments_of(name):
        return [
            "validate", "--config", "conf/gsm8k_smollm2.yaml", "--config", overlay,
            "--model.policy.path", smollm2,
            "--data.engine.kind", "vllm", "--run_dir", folder / name,
        ]  # fmt: skip

    return folder, arguments_of


@pytest.fixture(scope="module")
def runs(luffy_pl, start, validate):
    """One evaluation that was left alone and one that was killed: folder, finished processes."""
    folder, arguments_of = validate
    whole = luffy_pl(*arguments_of("whole"), "--progress.line_every_s", "0")
    assert whole.returncode == 0, whole.stderr[-2000:]
    answers = folder / "cut" / "validate" / "answers" / "gsm8k-0.jsonl"
    kill_when(
        start(*arguments_of("cut")),
        lambda: answers.exists() and len(read_lines(answers)) >= PROBLEMS * SAMPLES // 2,
    )
    num_kept = len(read_lines(answers))
    assert num_kept < PROBLEMS * SAMPLES
    resumed = luffy_pl(*arguments_of("cut"), "--resume", "true", "--progress.line_every_s", "0")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    return folder, whole, resumed, num_kept


def test_a_table_with_intervals(runs):
    folder, whole, _, _ = runs
    [entry] = json.loads((folder / "whole" / "results.json").read_text())["benchmarks"]
    assert (entry["n"], entry["k"], entry["temperature"]) == (PROBLEMS, SAMPLES, 0.6)
    assert list(entry["pass_at"]) == ["1", "2", "4"]
    metrics = entry["metrics"]
    for estimate in (metrics["avg"], metrics["pass"], metrics["maj"], *entry["pass_at"].values()):
        assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
    assert metrics["tokens"]["low"] < metrics["tokens"]["value"] < metrics["tokens"]["high"]
    assert metrics["tokens"]["high"] <= MAX_TOKENS
    counted = [metrics[name]["n"] for name in ("tokens_correct", "tokens_incorrect")]
    assert sum(counted) == PROBLEMS * SAMPLES
    [line] = [line for line in whole.stdout.splitlines() if line.strip().startswith("gsm8k")]
    assert line.split()[:4] == ["gsm8k", "32", "4", f"{100 * metrics['avg']['value']:.1f}"]


def test_killed_and_resumed_gives_the_same_table_and_results(runs):
    folder, whole, resumed, num_kept = runs
    assert resumed.stdout == whole.stdout
    for name in ("results.json", "results.md", "validate/phase-000000-gsm8k.jsonl"):
        expected, found = ((folder / run / name).read_text() for run in ("whole", "cut"))
        assert found == expected, name
    expected, found = (
        {
            (number % SAMPLES, line["prompt_id"]): line["response"]
            for number, line in enumerate(read_lines(path / "validate/answers/gsm8k-0.jsonl"))
        }
        for path in (folder / "whole", folder / "cut")
    )
    assert found == expected
    assert len(expected) == PROBLEMS * SAMPLES
    # What was there was not sampled again: progress begins where it stopped.
    first = next(line for line in resumed.stderr.splitlines() if line.startswith("gsm8k "))
    assert first == f"gsm8k {num_kept}/{PROBLEMS * SAMPLES} answers"
