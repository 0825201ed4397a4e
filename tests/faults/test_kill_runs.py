"""Four of the runs of experiments/reliability: killed at random moments, continued, compared."""

import csv
from pathlib import Path

import pytest

from faults.kill_runs import RECIPES, is_good

TESTS = Path(__file__).parents[1]
KILL_RUNS = Path(__file__).with_name("kill_runs.py")


@pytest.mark.slow
@pytest.mark.case(43, 44)
@pytest.mark.parametrize(("first", "runs"), [(0, 1), pytest.param(1, 8, marks=pytest.mark.long)])
def test_killed_runs_are_the_runs_that_were_not(start, tmp_path, first, runs):
    # A process of its own, for it forks: what other tests started here would be copied.
    with (tmp_path / "said.txt").open("w+") as said:
        process = start(
            "--runs", runs, "--first", first, "--seed", "1", "--folder", tmp_path / "runs",
            "--out", tmp_path / "rows.csv", script=KILL_RUNS, stdout=said, stderr=said,
        )  # fmt: skip
        assert process.wait() == 0, (tmp_path / "said.txt").read_text()[-3000:]
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["recipe"] for row in rows] == list(RECIPES)[first : first + runs]
    assert {row["differences"] for row in rows} == {"none"}


def test_the_table_says_what_was_found():
    folder = TESTS.parent / "experiments" / "reliability"
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len({row["recipe"] for row in rows}) == len(RECIPES)
    good = sum(map(is_good, rows))
    assert f"**{good} of {len(rows)}**" in (folder / "README.md").read_text()
