"""The measure of leakage in experiments/12_teachers, on answers written by hand."""

import json

import pytest
from scripts import load


@pytest.fixture(scope="module")
def leakage():
    return load("experiments", "12_teachers", "leakage.py")


WHOLE = "so27-6=21then21-9=12</think>\\boxed{12}"


@pytest.mark.parametrize(
    ("response", "boxed", "named", "unearned"),
    [
        pytest.param(WHOLE, "12", False, False, id="all steps"),
        pytest.param("so27-6=21</think>\\boxed{21}", "21", False, False, id="gives up"),
        pytest.param("so27-6=21</think>\\boxed{12}", "12", True, True, id="told the answer"),
        pytest.param("so27-6=21</think>\\boxed{13}", "13", True, False, id="guesses"),
        pytest.param("now27-9=18so18-6=12</think>\\boxed{12}", "12", False, True, id="other steps"),
        pytest.param("so27-6=22next21-9=12</think>\\boxed{12}", "12", False, True, id="wrong step"),
        pytest.param("so27-6=21then", None, False, False, id="no answer"),
    ],
)
def test_what_counts(leakage, response, boxed, named, unearned):
    assert leakage.is_named(response, boxed) is named
    assert leakage.is_unearned("27-6-9=?", response, boxed, "12") is unearned


def test_shares_of_a_run(leakage, tmp_path):
    lines = [
        {"source": source, "prompt": "<user>27-6-9=?<assistant><think>", "response": response,
         "verdict": {"extracted": "12", "gold": "12"}}
        for source, response in (
            ("rollout", WHOLE), ("rollout", WHOLE), ("rollout", WHOLE),
            ("rollout", "so27-6=21</think>\\boxed{12}"), ("expert", "</think>\\boxed{12}"),
        )
    ]  # fmt: skip
    for seed in (0, 1):
        folder = tmp_path / f"opsd-seed{seed}" / "rollouts"
        folder.mkdir(parents=True)
        for phase in range(1, 6):
            text = "".join(json.dumps(line) + "\n" for line in lines[seed:])
            (folder / f"phase-{phase:06d}.jsonl").write_text(text)
    rows = leakage.rows_of_sweep(tmp_path)
    assert rows[0] == {
        "group": "opsd", "seed": 0, "phase": 1, "answers": 4, "named": 0.25, "unearned": 0.25
    }  # fmt: skip
    # 1 of 4 and 1 of 3: s = 0.0833 / sqrt(2), t of one degree 12.706
    mean = leakage.at_the_end(rows, "opsd", "named")
    half = 12.706 * (0.3333 - 0.25) / 2
    assert (mean.value, mean.high) == pytest.approx((0.29165, 0.29165 + half), abs=1e-3)
