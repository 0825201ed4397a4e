"""Cells of a grid: names, command lines, fingerprints."""

import pytest

from luffy_pl.errors import ConfigError
from luffy_pl.sweep.grid import read_grid
from luffy_pl.sweep.plan import make_cells


def cells(path):
    return {cell.name: cell for cell in make_cells(read_grid(path))}


def test_the_product_without_what_is_excluded_and_with_what_is_beside(grid_file):
    path = grid_file(
        axes={
            "method": {"a": {}, "b": {"set": {"x.y": None}}},
            "gamma": {"key": "model.gamma", "values": [0.1, 0.3]},
        },
        exclude=[{"method": "b", "gamma": 0.3}],
        cells={"base": {"set": {"z": [1, "t"]}}},
    )
    found = cells(path)
    assert list(found) == [
        f"{group}-seed{seed}" for group in ("a-0.1", "a-0.3", "b-0.1", "base") for seed in (0, 1)
    ]
    cell = found["b-0.1-seed1"]
    base, run_dir = path.parents[1] / "base.yaml", path.parents[1] / "runs" / "b-0.1-seed1"
    assert cell.arguments == (
        "fit", "--config", str(base), "--x.y=null", "--model.gamma=0.1", "--seed_everything=1",
        f"--run_dir={run_dir}",
    )  # fmt: skip
    assert (cell.group, cell.labels) == ("b-0.1", {"method": "b", "gamma": "0.1"})
    assert found["base-seed0"].labels == {}
    assert '--z=[1, "t"]' in found["base-seed0"].arguments


def test_two_labels_cannot_set_one_key(grid_file):
    axes = {"a": {"x": {"set": {"k": 1}}}, "b": {"y": {"set": {"k": 2}}}}
    with pytest.raises(ConfigError, match="two labels set one key, got 'k'"):
        cells(grid_file(axes=axes))


def test_two_cells_cannot_have_one_name(grid_file):
    axes = {"a": {"x-y": {}, "x": {}}, "b": {"z": {}, "y-z": {}}}
    with pytest.raises(ConfigError, match="one name, got 'x-y-z-seed0'"):
        cells(grid_file(axes=axes))


def test_the_fingerprint_is_of_what_is_said_not_of_how(grid_file, tmp_path):
    def prints(**changes):
        return {name: cell.fingerprint for name, cell in cells(grid_file(**changes)).items()}

    first = prints()
    assert len(set(first.values())) == 4
    assert prints(run_dir=str(tmp_path / "moved")) == first
    base = tmp_path / "base.yaml"
    base.write_text("# a comment\na:\n  b: 1\n")
    assert prints() == first
    base.write_text("a: {b: 2}\n")
    assert not set(prints().values()) & set(first.values())
