"""What three people do first, step by step as they would, each step timed.

`pytest -m "long or not long" -rP tests/end_to_end/test_walks.py` prints the seconds of each step.
"""

import csv
import io
import sys
import time

import pytest
import yaml

from luffy_pl.run_dir.read import read_metrics

pytestmark = pytest.mark.slow

QUICK = ["--data.engine.kind", "hf", "--samples.groups_per_phase", "2"]
FEW = '[{name: few, source: {path: "bundled:heldout.jsonl", limit: 8}}]'
PROBLEMS = [
    ("7+5-3=?", "9", "so7+5=12then12-3=9</think>\\boxed{9}", 40),
    ("20-6+8=?", "22", "now20-6=14so14+8=22</think>\\boxed{22}", 40),
    ("31+4-9=?", "26", "next31+4=35then35-9=26</think>\\boxed{26}", 30),
    ("50-7-7=?", "36", "so50-7=43now43-7=36</think>\\boxed{36}", 30),
]
REWARD = '''
from luffy_pl.registry import register


@register("reward", "short_enough")
def short_enough(prompt, response):
    """1 for a right answer within the row's budget of tokens, else 0."""
    is_short = len(response.token_ids) <= int(prompt.columns["budget"])
    return float(is_short and response.verdict.correct is True)
'''
SHAPING = '''
from dataclasses import dataclass

from luffy_pl.bounds import bounded
from luffy_pl.objective.shaping import Shaping
from luffy_pl.registry import register


@register("shaping", "tanh_walk")
@dataclass(frozen=True)
class Tanh(Shaping):
    """f(r) = tanh(r / scale)."""

    scale: float = bounded(0.1, above=0, at_most=1e6)
    """The ratio from which f flattens."""

    def off_policy(self, log_ratio_NT):
        """tanh(r / scale)."""
        return (log_ratio_NT.exp() / self.scale).tanh()
'''


@pytest.fixture
def step(command_line, monkeypatch):
    """Run a command that has to succeed, and return what it printed; at the end print the times."""
    times = []

    def run(*args, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        began_s = time.monotonic()
        done = command_line(*args)
        seconds = time.monotonic() - began_s
        times.append(f"{seconds:6.1f} s  luffy-pl {' '.join(map(str, args))}")
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    yield run
    sys.stdout.write("\n".join(["", *times, ""]))


@pytest.mark.long
def test_a_newcomer_reads_the_readme(step, tmp_path):
    short = [*QUICK, "--data.rollout.num_phases", "6", "--data.benchmarks", FEW]
    first = tmp_path / "quickstart"
    table = step("quickstart", *short, "--run_dir", first)
    assert "few" in table
    assert step("view", first, "--html", tmp_path / "page.html") is not None
    assert (tmp_path / "page.html").stat().st_size > 10_000
    other = tmp_path / "on_policy"
    overlay = ["--config", "conf/quickstart.yaml", "--config", "conf/recipe/on_policy.yaml"]
    step("fit", *overlay, *short, "--run_dir", other)
    assert "on_policy" in step("report", first, other, "--plot", tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").exists()


def test_an_engineer_brings_data_and_a_reward(step, tmp_path):
    """From a CSV file and a reward of one's own to a model that answers."""
    table = tmp_path / "problems.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("question", "answer", "solution", "budget"))
        writer.writerows(PROBLEMS)
    (tmp_path / "my_reward.py").write_text(REWARD)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        yaml.safe_dump(
            {
                "data": {
                    "train": {
                        "path": str(table),
                        "columns": {"prompt": "question", "answer": "answer", "trace": "solution"},
                        "max_prompt_tokens": 48,
                    },
                    "rollout": {"prompts_per_phase": 2, "num_phases": 2},
                    "reward": {"terms": {"short_enough": 1.0}},
                    "benchmarks": [],
                }
            }
        )
    )
    plugin = ["--plugin", tmp_path / "my_reward.py"]
    configs = ["--config", "conf/quickstart.yaml", "--config", mine]
    assert "4" in step("data", "check", *plugin, *configs)
    run = tmp_path / "run"
    assert "OK" in step("fit", *plugin, *configs, *QUICK, "--run_dir", run, "--dry_run")
    step("fit", *plugin, *configs, *QUICK, "--run_dir", run)
    longer = ["--resume", "--run_dir", run, "--data.rollout.num_phases", "4"]
    step("fit", *plugin, *longer)
    metrics, _ = read_metrics(run / "metrics.jsonl")
    assert sorted(metrics) == [0, 1, 2, 3, 4]
    greedy = ["--engine", "hf", "--temperature", "0", "--max-tokens", "24"]
    assert step("chat", run, *greedy, stdin="7+5=?\n").strip()


def test_a_researcher_tries_a_weight(step, tmp_path):
    """From a function of one's own to a table over methods and seeds."""
    (tmp_path / "tanh.py").write_text(SHAPING)
    (tmp_path / "small.yaml").write_text(
        yaml.safe_dump(
            {
                "data": {
                    "engine": {"kind": "hf"},
                    "rollout": {"num_phases": 2, "prompts_per_phase": 2, "group_size": 2},
                    "benchmarks": yaml.safe_load(FEW),
                },
                "evaluation": {"every_n_phases": None},
            }
        )
    )
    shaping = "model.objective.off_policy.shaping"
    grid = {
        "name": "walk",
        "base": ["conf/quickstart.yaml", str(tmp_path / "small.yaml")],
        "axes": {
            "method": {
                "luffy": {},
                "tanh": {"set": {shaping: {"kind": "tanh_walk", "scale": 0.2}}},
            }
        },
        "seeds": [0],
        "run_dir": str(tmp_path / "runs"),
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    sweep = ["sweep", tmp_path / "grid.yaml", "--plugin", tmp_path / "tanh.py"]
    step(*sweep, "--dry_run")
    assert "tanh" in step(*sweep, "--max_parallel", "2")
    with (tmp_path / "results.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"luffy", "tanh"}
    runs = [tmp_path / "runs" / f"{method}-seed0" for method in ("luffy", "tanh")]
    assert "few" in step("report", *runs)
