"""Every example through the front door: given by --plugin, and installed as a package."""

import json
import re
from pathlib import Path

import pytest
import yaml
from docs.pages import DOCS, files, pages
from recipes.small_runs import SMALL

from luffy_pl.run_dir.read import read_lines
from plugins.conftest import EXAMPLES, HERE

COLUMN, GROUP, GRADER, ENGINE, METRIC, LOGGER = (
    HERE / f"{name}.py"
    for name in (
        "column_reward", "group_reward", "json_grader", "timed_engine", "agreement_metric",
        "csv_logger",
    )
)  # fmt: skip
ALL = (COLUMN, GROUP, GRADER, ENGINE, METRIC, LOGGER)
POINTS = {
    kind: {name: f"{file.stem}:{name}" for file, name in named}
    for kind, named in {
        "reward": [(COLUMN, "within_budget"), (GROUP, "rare_success")],
        "grader": [(GRADER, "json_keys")],
        "engine": [(ENGINE, "timed_hf")],
        "metric": [(METRIC, "agreement")],
        "logger": [(LOGGER, "csv")],
    }.items()
}
QUICKSTART = ["--config", "conf/quickstart.yaml"]


def options(*files):
    return [word for file in files for word in ("--plugin", file)]


def settings(rows):
    """A run of one phase that uses every example."""
    training, asked = rows
    benchmark = {
        "name": "asked", "source": {"path": str(asked)}, "metrics": ["agreement", "distinct"],
        "reward": {"grader": "json_keys"},
    }  # fmt: skip
    return [
        *QUICKSTART, *SMALL,
        "--data.rollout.num_phases", "1", "--data.rollout.prompts_per_phase", "4",
        "--data.rollout.temperature", "2.0", "--samples.groups_per_phase", "4",
        "--data.train.path", training, "--data.benchmarks", json.dumps([benchmark]),
        "--data.reward.terms", "{within_budget: 1.0, rare_success: 0.5}",
        "--data.engine.kind", "timed_hf", "--loggers", "[csv]",
    ]  # fmt: skip


def check_run(run, training, stderr):
    """Rewards are the examples' by hand; metric, logger and engine have left something."""
    budgets = {row["prompt"][0]["content"]: row["budget"] for row in read_lines(training)}
    groups: dict = {}
    for line in read_lines(run / "rollouts" / "phase-000001.jsonl"):
        groups.setdefault(line["prompt_id"], []).append(line)
    assert len(groups) == 4
    seen = set()
    for group in groups.values():
        right = [line["verdict"]["correct"] for line in group]
        for line, is_right in zip(group, right, strict=True):
            [budget] = [n for text, n in budgets.items() if text in line["prompt"]]
            expected = is_right * ((line["tokens"] <= budget) + 0.5 * right.count(False) / 8)
            assert line["reward"] == pytest.approx(expected)
            seen.add(line["reward"])
    assert len(seen) > 2
    for evaluation in read_lines(run / "evaluation.jsonl"):
        assert evaluation["avg"] == 0.0
        assert evaluation["n"] == 4
        assert 0 < evaluation["metrics"]["agreement"]["value"] <= 1
        assert evaluation["metrics"]["distinct"]["value"] == 1.0
    assert "reward" in (run / "csv" / "metrics.csv").read_text().splitlines()[0]
    assert "sampled" in stderr


def test_all_examples_by_plugin(command_line, rows, tmp_path):
    run = tmp_path / "run"
    own = [*settings(rows), "--run_dir", run]
    done = command_line("fit", *own, *options(*ALL))
    assert done.returncode == 0, done.stderr
    check_run(run, rows[0], done.stderr)
    written = yaml.safe_load((run / "config.yaml").read_text())["plugins"]
    assert [Path(one["path"]).name for one in written] == [file.name for file in ALL]
    assert all(len(one["sha256"]) == 64 for one in written)

    goes_on = ["--data.rollout.num_phases", "1", "--resume", "true"]
    done = command_line("fit", "--run_dir", run, *goes_on, *options(*ALL[1:]))
    assert done.returncode == 2
    assert f"Fix: add --plugin {COLUMN}" in done.stderr
    changed = tmp_path / COLUMN.name
    changed.write_text(COLUMN.read_text() + "\n")
    done = command_line("fit", "--run_dir", run, *goes_on, *options(changed, *ALL[1:]))
    assert done.returncode == 2
    assert written[0]["sha256"] in done.stderr
    done = command_line("fit", "--run_dir", run, *goes_on, *options(*ALL))
    assert done.returncode == 0, done.stderr


def test_all_examples_as_a_package(command_line, rows, install, tmp_path):
    install(*ALL, **POINTS)
    done = command_line("fit", *settings(rows), "--run_dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "run", rows[0], done.stderr)


def test_validate_shows_a_metric_and_wants_the_same_plugins(command_line, rows, tmp_path):
    run = ["--run_dir", tmp_path / "run"]
    done = command_line("validate", *settings(rows), *run, *options(*ALL))
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["benchmarks"][0]["metrics"]) > {"avg", "agreement"}
    assert "| agreement |" in (tmp_path / "run" / "results.md").read_text()
    identity = json.loads((tmp_path / "run/validate/answers/identity.json").read_text())
    assert len(identity["plugins"]) == len(ALL)
    other = tmp_path / METRIC.name
    other.write_text(METRIC.read_text() + "\n")
    again = [*settings(rows), *run, "--resume", "true"]
    done = command_line("validate", *again, *options(*ALL[:4], other, LOGGER))
    assert done.returncode == 2
    assert "has changed since" in done.stderr


def test_verify_grades_without_golds(command_line, tmp_path):
    lines = [{"prediction": text, "keys": ["sum"]} for text in ('{"sum": 1}', "{}", "5")]
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ["verify", "--pairs", pairs, "--out", out]
    done = command_line(*asked, "--grader", "json_keys", *options(GRADER))
    assert done.returncode == 0, done.stderr
    assert [line["verdict"]["correct"] for line in read_lines(out)] == [True, False, False]
    done = command_line(*asked, *options(GRADER))
    assert (done.returncode, "gold is not text" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--data.reward.terms", "{within_budgt: 1.0}"], "no reward, got 'within_budgt'"),
        (["--data.reward.grader", "json_kys"], "data.reward.grader: is no grader, got 'json_kys'"),
        (["--data.engine.kind", "timed_hg"], "data.engine.kind: is no engine, got 'timed_hg'"),
        (["--loggers", "[cvs]"], "loggers: is no logger, got 'cvs'"),
        (
            ["--data.benchmarks", "[{name: b, source: {path: x}, metrics: [agrement]}]"],
            "data.benchmarks[b].metrics: is no metric, got 'agrement'",
        ),
    ],
)
def test_a_mistyped_name_is_one_line_with_the_nearest(command_line, tmp_path, words, line):
    own = [*QUICKSTART, "--run_dir", tmp_path / "run", *words, *options(*ALL)]
    done = command_line("fit", *own)
    [said] = done.stderr.splitlines()
    assert done.returncode == 2
    assert line in said

    assert re.search(r"Fix: did you mean (within_budget|json_keys|timed_hf|csv|agreement)\?$", said)


def test_longer_examples_stand_on_their_page_as_they_are():
    shown = files(pages()["tutorials/rewards.md"])
    found = sorted((DOCS / "examples").glob("*.py"))
    assert len(found) == 2
    for file in found:
        assert shown[file.name] == file.read_text(), file


def test_examples_are_short_and_stand_on_the_page_as_they_are():
    shown = files(pages()["tutorials/plugins.md"])
    for file in EXAMPLES:
        assert len(file.read_text().splitlines()) <= 40, file
        assert shown.get(file.name) == file.read_text(), file
