"""Four of the runs of experiments/reliability: killed at random moments, continued, compared."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults.kill_runs import is_good

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.case(43, 44)
def test_killed_runs_are_the_runs_that_were_not(tmp_path):
    # A process of its own, for it forks: what other tests started here would be copied.
    done = subprocess.run(
        [sys.executable, "-m", "faults.kill_runs", "--runs", "4", "--seed", "1",
         "--folder", tmp_path / "runs", "--out", tmp_path / "rows.csv"],
        cwd=TESTS.parent, env=os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["recipe"] for row in rows] == ["luffy", "exgrpo", "relift", "dapo"]
    assert {row["differences"] for row in rows} == {"none"}


def test_the_table_says_what_was_found():
    folder = TESTS.parent / "experiments" / "reliability"
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len({row["recipe"] for row in rows}) == 6
    good = sum(map(is_good, rows))
    assert f"**{good} of {len(rows)}**" in (folder / "README.md").read_text()
