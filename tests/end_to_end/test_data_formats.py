"""A data set in every form that people have trains two phases, and is evaluated and checked."""

import json

import pytest
from data.formats import FORMATS, ROWS, written
from recipes.small_runs import SMALL

from luffy_pl.run_dir.read import read_lines

IN_SHORT = ("csv",)
OTHERS = [pytest.param(name, marks=pytest.mark.long) for name in FORMATS if name not in IN_SHORT]


@pytest.fixture(scope="module")
def expected():
    """The numbers of the first format, which the others have to give as well."""
    return {}


@pytest.mark.parametrize("name", [*IN_SHORT, *OTHERS])
def test_a_format_trains_two_phases(command_line, tmp_path, name, expected):
    path, run = written(name, tmp_path), tmp_path / "run"
    benchmark = {"name": "own", "source": {"path": path, "limit": 2}}
    settings = [
        "--config", "conf/quickstart.yaml", *SMALL, "--data.train.path", path,
        "--data.rollout.num_phases", "2", "--data.rollout.prompts_per_phase", "4",
        "--data.rollout.temperature", "2.0",
    ]  # fmt: skip
    if name in IN_SHORT:
        settings += ["--data.benchmarks", json.dumps([benchmark])]
    done = command_line("fit", *settings, "--run_dir", run)
    assert done.returncode == 0, done.stderr
    losses = {
        (line["step"], key): value
        for line in read_lines(run / "metrics.jsonl")
        for key, value in line.items()
        if key.startswith(("actor/", "critic/", "expert/"))
    }
    assert {1, 2} <= {step for step, _ in losses}
    assert any(losses[step, "actor/grad_norm"] > 0 for step in (1, 2))
    # The rows have ids, which key the seeds: a format changes nothing.
    assert losses == expected.setdefault("losses", losses)
    if name == "alpaca":  # a schema that is known
        return
    said = [line for line in done.stderr.splitlines() if "guessed" in line]
    assert f"{path}: first row " in said[0]
    assert ": prompt=" in said[0]


def test_check_and_fit_read_the_same(command_line, tmp_path):
    path = written("csv", tmp_path)
    done = command_line("data", "check", "--config", "conf/quickstart.yaml", path,
                        "--out", tmp_path / "check")  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert "(guessed: prompt, trace; --source.columns.NAME sets another)" in done.stdout
    found = json.loads((tmp_path / "check" / "check.json").read_text())
    assert (found["num_rows"], found["num_right"]) == (len(ROWS), len(ROWS))
