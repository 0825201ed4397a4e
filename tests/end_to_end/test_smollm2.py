"""A real language model and real data: SmolLM2-135M, GSM8K, human solutions as expert traces."""

import json
import math

import pytest
from readme_commands import arguments

from luffy_pl.run_dir.read import read_metrics

pytestmark = pytest.mark.slow

PHASES, PROMPTS, GROUP = 2, 2, 3


def test_two_phases_of_human_solutions(luffy_pl, gsm8k, smollm2, tmp_path):
    run_dir = train(luffy_pl, gsm8k, smollm2, tmp_path)
    losses_are_finite_and_weights_move(run_dir)
    the_engine_has_the_trained_weights(run_dir)
    every_group_holds_a_human_solution_that_the_verifier_accepts(run_dir)


def train(luffy_pl, gsm8k, smollm2, folder):
    """conf/gsm8k_smollm2.yaml with fewer prompts, from the converted package."""
    done = luffy_pl(
        *arguments("smollm2", folder),
        "--model.policy.path", smollm2,
        "--data.train.path", gsm8k / "train.jsonl",
        "--data.train.limit", "256",
        "--data.rollout.max_response_tokens", "144",
        "--data.rollout.group_size", GROUP,
        "--data.benchmarks", "[]",
        "--data.rollout.num_phases", PHASES,
        "--data.rollout.prompts_per_phase", PROMPTS,
        "--checkpoint.every_n_phases", "1000",
        "--run_dir", folder / "run",
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "run"


def phases(run_dir):
    return read_metrics(run_dir / "metrics.jsonl")[0]


def losses_are_finite_and_weights_move(run_dir):
    for phase in range(1, PHASES + 1):
        row = phases(run_dir)[phase]
        assert all(math.isfinite(value) for value in row.values()), row
        assert row["actor/grad_norm"] > 0


def the_engine_has_the_trained_weights(run_dir):
    gaps = [row["sync/logprob_gap_nats"] for row in phases(run_dir).values()]
    assert len(gaps) == PHASES + 1
    assert max(gaps) < 1e-4


def every_group_holds_a_human_solution_that_the_verifier_accepts(run_dir):
    for phase in range(1, PHASES + 1):
        lines = (run_dir / "rollouts" / f"phase-{phase:06d}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == PROMPTS * GROUP
        assert all(row["verdict"]["status"] != "gold_bad" for row in rows)
        experts = [row for row in rows if row["source"] == "expert"]
        assert [row["reward"] for row in experts] == [1.0] * PROMPTS
        assert all(row["reward"] in (0.0, 1.0) for row in rows)
        assert len({row["prompt_id"] for row in experts}) == PROMPTS
