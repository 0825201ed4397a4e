"""The grids in experiments/ stay runnable: every cell composes."""

import re
from pathlib import Path

import pytest
import yaml

from luffy_pl.registry import load_plugins
from luffy_pl.run import command
from luffy_pl.sweep.check import check_cells
from luffy_pl.sweep.grid import read_grid
from luffy_pl.sweep.plan import make_cells

ROOT = Path(__file__).parents[2]
GRIDS = sorted(
    str(file.relative_to(ROOT))
    for file in (ROOT / "experiments").rglob("*.yaml")
    if "name" in yaml.safe_load(file.read_text())
)


@pytest.mark.parametrize("path", GRIDS)
def test_a_grid_names_existing_files(monkeypatch, path):
    monkeypatch.chdir(ROOT)
    assert make_cells(read_grid(Path(path)))


@pytest.fixture
def plugins(monkeypatch):
    """Load the plugins that a grid's command names, and forget them after the test."""
    monkeypatch.setattr(command, "LuffyModule", command.LuffyModule)  # a plugin may replace it
    yield lambda path: load_plugins(re.findall(r"--plugin (\S+)", (ROOT / path).read_text()))
    load_plugins([])


@pytest.mark.slow
@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(slice(-1, None), id="last"),
        pytest.param(slice(None), id="all", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("path", GRIDS)
def test_cells_compose(monkeypatch, plugins, path, cells):
    monkeypatch.chdir(ROOT)
    plugins(path)
    grid = read_grid(Path(path))
    check_cells(make_cells(grid)[cells], grid)


def test_every_experiment_has_its_claim_and_what_was_found():
    for folder in (ROOT / "experiments").glob("[01]*_*"):
        text = (folder / "README.md").read_text()
        for part in ("**Claim.**", "**Command.**", "**Expected.**", "**Cost.**", "**Found.**"):
            assert part in text, f"{folder.name}: {part}"
        assert (folder / "results.csv").exists()
        assert (folder / "figure.png").exists()
