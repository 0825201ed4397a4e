"""The ledger of runs whose every token is known: problems that the base solves each time."""

import json
import shutil

import pytest

from luffy_pl.run_dir.read import read_lines, read_metrics

PROMPT, ANSWER = 9, 14
ROW = PROMPT + ANSWER
# Embedding = head; two layers of q, k, v, o (64 x 128), three of 64 x 168, two norms; a norm.
PARAMETERS = 27 * 64 + 2 * (4 * 64 * 128 + 3 * 64 * 168 + 2 * 64) + 64
ATTENTION = 2 * 4 * 32
KL = ["--model.objective.kl.coef", "0.1"]


def attended(tokens):
    return tokens * (tokens + 1) // 2


def flops(rows, *, passes):
    """Of forward passes over whole rows."""
    return passes * rows * (2 * PARAMETERS * ROW + 4 * ATTENTION * attended(ROW))


def sampling(groups, *, rollouts):
    tokens = PROMPT + rollouts * ANSWER
    pairs = attended(PROMPT) + rollouts * (attended(ROW) - attended(PROMPT))
    return groups * (2 * PARAMETERS * tokens + 4 * ATTENTION * pairs)


@pytest.fixture
def fit(command_line, tmp_path):
    """Two groups of two rollouts and a trace, an optimizer step for each; nothing is learned."""
    (tmp_path / "train.jsonl").write_text("".join(
        json.dumps({"prompt": f"{n}-3=?", "answer": str(n - 3),
                    "trace": f"<think>so{n}-3={n - 3}</think>\\boxed{{{n - 3}}}"}) + "\n"
        for n in (50, 60, 70, 80)
    ))  # fmt: skip

    def run(run_dir, *settings, phases=2):
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", "--data.engine.kind", "hf",
            "--data.benchmarks", "[]", "--model.optimizer.lr", "1e-12",
            "--data.train.path", tmp_path / "train.jsonl",
            "--data.rollout.prompts_per_phase", "2", "--data.rollout.group_size", "3",
            "--data.rollout.num_phases", phases, "--samples.groups_per_phase", "null",
            "--run_dir", tmp_path / run_dir, *settings,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = [
            line
            for file in (tmp_path / run_dir / "rollouts").glob("*")
            for line in read_lines(file)
        ]
        # What the numbers below rest on.
        assert {row["tokens"] for row in rows} == {ANSWER}
        assert {len(row["prompt"]) for row in rows} == {len("<user>50-3=?<assistant><think>")}
        return ledger(tmp_path / run_dir)

    return run


def ledger(run_dir):
    """By phase, without the seconds."""
    prefix = "ledger/"
    return {
        phase: {
            name.removeprefix(prefix): value
            for name, value in row.items()
            if name.startswith(prefix) and not name.endswith("seconds")
        }
        for phase, row in read_metrics(run_dir / "metrics.jsonl")[0].items()
        if any(name.startswith(prefix) for name in row)
    }


@pytest.mark.parametrize(
    ("settings", "train", "extra"),
    [
        ([], 3, 0),
        (["--model.policy.activation_checkpointing", "true"], 4, 0),
        # The reference looks at all six rows; in the reward, policy and reference do.
        (KL, 3, 6),
        ([*KL, "--model.objective.kl.place", "reward"], 3, 12),
    ],
    ids=["plain", "checkpointing", "kl in loss", "kl in reward"],
)
def test_totals_by_hand(fit, settings, train, extra):
    found = fit("run", *settings)
    # The rows of the second step are looked at before the first.
    phase = (
        sampling(2, rollouts=2)
        + flops(6, passes=train)
        + flops(3, passes=1)
        + flops(extra, passes=1)
    )
    assert found == {
        number: {
            "generated_tokens": number * 4 * ANSWER,
            "trained_rollout_tokens": number * 4 * ANSWER,
            "trained_given_tokens": number * 2 * ANSWER,
            "optimizer_steps": number * 2,
            "model_flops": number * phase,
        }
        for number in (1, 2)
    }


def test_groups_that_were_replaced_have_been_sampled(fit):
    """All rollouts are right, so both groups are tried again, and kept in the end."""
    found = fit(
        "run", "--data.rollout.expert_traces_per_group", "0", "--data.rollout.refill_tries", "1",
        phases=1,
    )  # fmt: skip
    [totals] = found.values()
    assert totals["generated_tokens"] == 2 * totals["trained_rollout_tokens"] == 4 * 3 * ANSWER
    assert totals["trained_given_tokens"] == 0
    expected = sampling(4, rollouts=3) + flops(6, passes=3) + flops(3, passes=1)
    assert totals["model_flops"] == expected


def test_a_resumed_run_goes_on_counting(fit, tmp_path):
    settings = ["--checkpoint.every_n_phases", "1", "--checkpoint.keep", "9"]
    whole = fit("run", *settings, phases=3)
    seconds = seconds_by_phase(tmp_path / "run")
    for phase in (2, 3):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"phase-{phase:06d}")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    resumed = fit("run", *settings, "--resume", "true", phases=3)
    assert resumed == {phase: whole[phase] for phase in (2, 3)}
    assert seconds[1] < seconds_by_phase(tmp_path / "run")[2]


def seconds_by_phase(run_dir):
    metrics = read_metrics(run_dir / "metrics.jsonl")[0]
    return {
        phase: row["ledger/seconds"] for phase, row in metrics.items() if "ledger/seconds" in row
    }
