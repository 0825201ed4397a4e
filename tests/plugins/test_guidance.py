"""A hint of one's own through the front door: by --plugin, and installed."""

import json
from pathlib import Path

import pytest
from recipes.small_runs import SMALL

from luffy_pl.bundled import resolve
from luffy_pl.registry import find, load_plugins
from luffy_pl.run_dir.read import read_lines
from plugins.conftest import HERE

LEVEL = HERE / "level_hints.py"
GUIDANCE = "{what: level, column: steps, share: {levels: [0.5, 1.0]}, put_back: plain, rows: 2}"


@pytest.fixture
def fit(command_line, tmp_path):
    """Train for a phase on eight rows, all but one with two hints."""
    rows = [
        json.loads(line)
        for line in Path(resolve("bundled:train.jsonl")).read_text().splitlines()[:8]
    ]
    for number, row in enumerate(rows):
        row["steps"] = None if number == 0 else ["so", "now"]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(*words, name="run"):
        done = command_line(
            "fit", "--config", "conf/quickstart.yaml", *SMALL, "--data.train.path", data,
            "--config", "conf/recipe/on_policy.yaml", "--data.rollout.guidance", GUIDANCE,
            "--data.rollout.num_phases", "1", "--run_dir", tmp_path / name, *words,
        )  # fmt: skip
        return done, tmp_path / name

    return run


def test_its_hints_are_told_one_after_the_other(fit, install):
    done, run = fit("--plugin", LEVEL)
    assert done.returncode == 0, done.stderr
    rows = list(read_lines(run / "rollouts" / "phase-000001.jsonl"))
    hinted = [row for row in rows if "hint" in row]
    # The base solves none of them, so that the last hint is told to all seven that have any.
    assert len(hinted) == 7 * 2
    assert {(row["source"], row["hint"]["text"]) for row in hinted} == {("hinted", "now")}
    metrics = {k: v for line in read_lines(run / "metrics.jsonl") for k, v in line.items()}
    assert metrics["hint/nothing_to_tell"] == 2 / 16
    assert metrics["hint/rows"] == 14 / 64

    load_plugins([])
    install(LEVEL, guidance={"level": f"{LEVEL.stem}:level"})
    assert find("guidance", "level", where="what").__module__ == LEVEL.stem


def test_a_mistyped_name_is_one_line_with_the_nearest(fit):
    done, _ = fit("--plugin", LEVEL, "--data.rollout.guidance.what", "levle")
    [said] = done.stderr.splitlines()[-1:]
    assert done.returncode == 2
    assert "data.rollout.guidance.what: is no guidance, got 'levle'" in said
    assert "did you mean level?" in said


def test_code_that_fails_is_one_line(fit, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        'from luffy_pl.registry import register\nregister("guidance", "level")(lambda request: 1/0)'
    )
    done, _ = fit("--plugin", wrong)
    assert done.returncode == 2
    assert "guidance level: fails on prompt" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    wrong.write_text(
        'from luffy_pl.registry import register\nregister("guidance", "level")(lambda request: 5)'
    )
    done, _ = fit("--plugin", wrong, name="again")
    assert (done.returncode, "returns no text, got 5" in done.stderr) == (2, True)


def test_by_hand():
    load_plugins([str(LEVEL)])
    level = find("guidance", "level", where="what")
    prompt = type("P", (), {"columns": {"hints": ["a", "b", "c"]}})
    told = [
        level(type("R", (), {"prompt": prompt, "share": share, "column": None}))
        for share in (0.34, 0.6, 1.0)
    ]
    assert told == ["a", "b", "c"]
