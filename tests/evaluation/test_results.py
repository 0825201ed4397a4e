"""results.json and results.md, from rows made by hand."""

import json

from luffy_pl.evaluation.results import write_results
from luffy_pl.report.outcomes import read_outcomes
from luffy_pl.run_dir.read import RunHistory

ROW = {"benchmark": "aime24", "n": 30, "k": 32, "avg": 0.25, "low": 0.125, "high": 0.375}
ROW |= {"temperature": 0.6, "out_of_distribution": False}
ROW |= {"pass_at": {"1": {"value": 0.25, "low": 0.125, "high": 0.375}}}
NAN = float("nan")
UNGRADED = {"benchmark": "amc", "n": 0, "k": 0, "avg": NAN, "low": NAN, "high": NAN}
UNGRADED |= {"temperature": 0.0, "out_of_distribution": True, "pass_at": {}}
LENGTHS = {
    "tokens_correct": 812.53, "tokens_correct_low": 700.0, "tokens_correct_high": 900.0,
    "tokens_correct_n": 240, "tokens_incorrect": None, "tokens_incorrect_low": None,
    "tokens_incorrect_high": None, "tokens_incorrect_n": 0,
}  # fmt: skip


def test_by_hand(tmp_path):
    row = ROW | {"maj": 0.5, "maj_low": 0.4, "maj_high": 0.6} | LENGTHS
    write_results(
        tmp_path, [row, UNGRADED], command="validate", model="m", checkpoint="c.ckpt", phase=500
    )
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text) == {
        "version": 1,
        "model": "m",
        "checkpoint": "c.ckpt",
        "phase": 500,
        "benchmarks": [
            {
                "name": "aime24",
                "n": 30,
                "k": 32,
                "temperature": 0.6,
                "out_of_distribution": False,
                "metrics": {
                    "avg": {"value": 0.25, "low": 0.125, "high": 0.375},
                    "maj": {"value": 0.5, "low": 0.4, "high": 0.6},
                    "tokens_correct": {"value": 812.53, "low": 700.0, "high": 900.0, "n": 240},
                    "tokens_incorrect": {"value": None, "low": None, "high": None, "n": 0},
                },
                "pass_at": {"1": {"value": 0.25, "low": 0.125, "high": 0.375}},
            },
            {
                "name": "amc",
                "n": 0,
                "k": 0,
                "temperature": 0.0,
                "out_of_distribution": True,
                "metrics": {"avg": {"value": None, "low": None, "high": None}},
                "pass_at": {},
            },
        ],
    }
    assert (tmp_path / "results.md").read_text() == (
        "| benchmark | n | k | metric | value | 95% interval |\n"
        "|---|--:|--:|---|--:|--:|\n"
        "| aime24 | 30 | 32 | avg@k | 25.0 | [12.5, 37.5] |\n"
        "| aime24 | 30 | 32 | maj@k | 50.0 | [40.0, 60.0] |\n"
        "| aime24 | 30 | 32 | tokens of 240 correct answers | 812.5 | [700.0, 900.0] |\n"
        "| aime24 | 30 | 32 | tokens of 0 incorrect answers | - | [-, -] |\n"
        "| amc | 0 | 0 | avg@k | - | [-, -] |\n"
    )


def test_a_test_and_a_validation_leave_each_others_results_alone(tmp_path):
    for command, accuracy in (("validate", 0.25), ("test", 0.5)):
        row = ROW | {"avg": accuracy}
        write_results(tmp_path, [row], command=command, model="m", checkpoint=None, phase=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "results.json", "results.md", "test_results.json", "test_results.md",
    ]  # fmt: skip
    outcomes = read_outcomes(tmp_path, RunHistory("r", None, {}, []))
    assert [(o.title, o.benchmarks[0]["metrics"]["avg"]["value"]) for o in outcomes] == [
        ("results.json, phase 7", 0.25),
        ("test_results.json, phase 7", 0.5),
    ]
