"""A grid file: what it may say, and one line for what it may not."""

import re
from pathlib import Path

import pytest
import yaml

from luffy_pl.errors import ConfigError
from luffy_pl.sweep.grid import KEYS, read_grid
from luffy_pl.sweep.plan import make_cells

ROOT = Path(__file__).parents[2]


def test_a_list_of_values_is_short_for_one_override_each(grid_file):
    path = grid_file(axes={"gamma": {"key": "model.gamma", "values": [0.1, True, "x"]}})
    gamma = read_grid(path).axes["gamma"]
    assert {label: setting.overrides for label, setting in gamma.items()} == {
        "0.1": {"model.gamma": 0.1},
        "True": {"model.gamma": True},
        "x": {"model.gamma": "x"},
    }


def test_what_is_left_out_has_a_default(grid_file):
    grid = read_grid(grid_file(seeds=None, run_dir=None))
    assert grid.seeds == (0,)
    assert str(grid.run_dir) == "outputs/sweeps/tiny"
    assert (grid.command, grid.metrics, grid.minutes_per_cell) == ("fit", (), None)
    assert (grid.ray.num_cpus, grid.slurm.minutes) == (1, 60)


MISTAKES = {
    "unknown key": ({"seed": [1]}, ["unknown name, got 'seed'", "did you mean seeds?"]),
    "unknown part": (
        {"axes": {"m": {"a": {"config": []}}}},
        ["axes.m.a", "'config'", "did you mean configs?"],
    ),
    "missing base": ({"base": ["conf/no.yaml"]}, ["grid.yaml: base", "conf/no.yaml"]),
    "missing overlay": (
        {"axes": {"m": {"a": {"configs": ["no.yaml"]}}}},
        ["axes.m.a.configs", "no.yaml"],
    ),
    "missing bundled overlay": (
        {"axes": {"m": {"a": {"configs": ["bundled:recipe/on_polcy"]}}}},
        ["grid.yaml: axes.m.a.configs", "did you mean bundled:recipe/on_policy?"],
    ),
    "no cells": ({"axes": None}, ["names no cells"]),
    "empty axis": ({"axes": {"m": {}}}, ["axes.m", "has no labels"]),
    "seeds that repeat": ({"seeds": [1, 1]}, ["seeds", "different integers"]),
    "a label with a slash": ({"axes": {"m": {"a/b": {}}}}, ["axes.m.a/b", "'a/b'"]),
    "a label that YAML reads as true": ({"cells": {True: {}}}, ["cells.True", "quotes"]),
    "excluded label": ({"exclude": [{"method": "god"}]}, ["exclude.method", "mean good?"]),
    "excluded axis": ({"exclude": [{"methods": "good"}]}, ["exclude", "mean method?"]),
    "an option of the sweep": (
        {"axes": {"m": {"a": {"set": {"run_dir": "x"}}}}},
        ["axes.m.a.set", "'run_dir'"],
    ),
    "unknown command": ({"command": "fitt"}, ["command", "did you mean fit?"]),
    "minutes": ({"minutes_per_cell": -1}, ["minutes_per_cell", "got -1"]),
    "resource": ({"slurm": {"gpu": 1}}, ["slurm", "'gpu'", "did you mean gpus?"]),
    "type of a resource": ({"ray": {"num_gpus": "1"}}, ["ray.num_gpus", "'1'"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(grid_file, name):
    changes, words = MISTAKES[name]
    with pytest.raises(ConfigError) as error:
        read_grid(grid_file(**changes))
    for word in (*words, "Fix: "):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_file_and_a_label_that_is_there_twice(tmp_path):
    path = tmp_path / "grid.yaml"
    for text, word in (("name: [", "line"), ("name: a\naxes: {m: {a: {}, a: {}}}", "duplicate")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=word):
            read_grid(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_grid(tmp_path / "no.yaml")


def test_the_example_of_the_readme_is_right_and_has_every_key(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    [example] = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "experiments" / "README.md").read_text(), re.DOTALL
    )
    path = tmp_path / "grid.yaml"
    path.write_text(example)
    grid = read_grid(path)
    assert set(yaml.safe_load(example)) == set(KEYS)
    assert str(grid.run_dir) == f"outputs/sweeps/{grid.name}"
    # 3 methods x 2 rates less 1, and 1 beside them, by 3 seeds
    assert len(make_cells(grid)) == 18
