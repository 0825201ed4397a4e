"""What `luffy-pl validate` leaves on disk, from the miniature model and the exact engine."""

import json

import pytest

from luffy_pl.evaluation.problems import read_problems
from luffy_pl.run_dir.read import read_lines

OVERLAY = """
data:
  engine: {kind: hf}
  benchmarks:
    - name: shorter
      source: {path: "bundled:shorter.jsonl", limit: 5}
      samples_per_problem: 3
      temperature: 1.0
    - name: longer
      source: {path: "bundled:longer.jsonl", limit: 4}
"""


@pytest.fixture
def run_dir(command_line, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(OVERLAY)
    run_dir = tmp_path / "run"
    configs = ["--config", "conf/quickstart.yaml", "--config", overlay]
    done = command_line("validate", *configs, "--run_dir", run_dir)
    assert done.returncode == 0, done.stderr
    return run_dir


def test_results_and_problems_agree_with_the_table(run_dir):
    rows = {row["benchmark"]: row for row in read_lines(run_dir / "validate.jsonl")}
    results = json.loads((run_dir / "results.json").read_text())
    assert results.keys() == {"version", "model", "checkpoint", "phase", "benchmarks"}
    assert (results["version"], results["checkpoint"], results["phase"]) == (1, None, 0)
    assert results["model"].endswith("base")
    by_name = {entry["name"]: entry for entry in results["benchmarks"]}
    assert by_name.keys() == rows.keys() == {"shorter", "longer", "average"}
    assert {name: (entry["n"], entry["k"]) for name, entry in by_name.items()} == {
        "shorter": (5, 3),
        "longer": (4, 1),
        "average": (9, None),
    }
    for name, entry in by_name.items():
        row = rows[name]
        avg = {"value": row["avg"], "low": row["low"], "high": row["high"]}
        assert entry["metrics"]["avg"] == avg
        assert set(entry["metrics"]) == (
            {"avg"}
            if name == "average"
            else {
                "avg",
                "pass",
                "maj",
                "no_answer",
                "truncated",
                "timeout",
                "tokens",
                "tokens_correct",
                "tokens_incorrect",
            }
        )
        for metric, estimate in entry["metrics"].items():
            ends = {"value", "low", "high"} | ({"n"} if metric.startswith("tokens_") else set())
            assert estimate.keys() == ends
    assert {name: entry["temperature"] for name, entry in by_name.items()} == {
        "shorter": 1.0,
        "longer": 0.0,
        "average": None,
    }
    assert {name: list(entry["pass_at"]) for name, entry in by_name.items()} == {
        "shorter": ["1", "2"],
        "longer": ["1"],
        "average": [],
    }
    for name, problems in read_problems(run_dir).items():
        accuracies = [outcome.accuracy for outcome in problems.values()]
        assert len(accuracies) == rows[name]["n"]
        assert sum(accuracies) / len(accuracies) == pytest.approx(rows[name]["avg"])

    markdown = (run_dir / "results.md").read_text().splitlines()
    assert markdown[0] == "| benchmark | n | k | metric | value | 95% interval |"
    shown = [line.split(" | ")[3].partition(" ")[0] for line in markdown[2:]]
    of_benchmark = ["avg@k", "pass@k", "maj@k", "tokens", "tokens"]
    assert shown == [*of_benchmark, *of_benchmark, "avg@k"]
