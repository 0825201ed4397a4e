"""A grid of cells that take no time, and the sweep over them in this process."""

import sys
from types import SimpleNamespace

import pytest
import yaml

from luffy_pl.sweep import plan
from sweep.fake_cell import FAKE


@pytest.fixture
def grid_file(tmp_path):
    """Writes tmp_path/exp/grid.yaml: two methods, two seeds, changed as asked."""

    def write(**changes):
        base = tmp_path / "base.yaml"
        if not base.exists():
            base.write_text("a: {b: 1}\n")
        content = {
            "name": "tiny",
            "run_dir": str(tmp_path / "runs"),
            "base": [str(base)],
            "axes": {"method": {"good": {}, "better": {"set": {"fake.accuracy": 0.7}}}},
            "seeds": [0, 1],
            **changes,
        }
        path = tmp_path / "exp" / "grid.yaml"
        path.parent.mkdir(exist_ok=True)
        content = {key: value for key, value in content.items() if value is not None}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def fake_cells(monkeypatch):
    """Cells run fake_cell.py, and their configurations are not composed."""
    monkeypatch.setattr(plan, "PROGRAM", FAKE)
    unchecked = SimpleNamespace(check_cells=lambda cells, grid: None)
    monkeypatch.setitem(sys.modules, "luffy_pl.sweep.check", unchecked)
