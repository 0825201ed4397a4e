"""Configurations are composed before the first cell runs."""

import os

import pytest

BASE = ["conf/quickstart.yaml"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"data.rollout.group_sizes": 8}, ["data.rollout.group_sizes", "did you mean"]),
        ({"data.rollout.group_size": 0}, ["data.rollout.group_size", "at least 1"]),
        ({"data.rollout.prompts_per_phase": 15}, ["must be a multiple"]),
    ],
)
def test_an_error_names_the_cell(command_line, grid_file, tmp_path, override, words):
    axes = {"method": {"good": {}, "bad": {"set": override}}}
    done = command_line("sweep", grid_file(base=BASE, axes=axes), "--dry_run")
    assert done.returncode == 2
    for word in ("error [2] cell bad-seed0: ", *words):
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_benchmark_of_the_summary_exists(command_line, grid_file):
    done = command_line(
        "sweep", grid_file(base=BASE, axes=None, cells={"a": {}}, metrics=["longr"])
    )
    assert done.returncode == 2
    assert (
        "metrics of cell a-seed0: unknown name, got 'longr'. Fix: did you mean longer?"
        in done.stderr
    )


def test_a_right_grid_composes_and_seeds_nothing(command_line, grid_file, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    overlays = {"on_policy": {"configs": ["conf/recipe/on_policy.yaml"]},
                "no_shaping": {"configs": ["bundled:ablation/no_shaping"]}}  # fmt: skip
    done = command_line("sweep", grid_file(base=BASE, axes={"m": overlays}), "--dry_run")
    assert done.returncode == 0, done.stderr
    fit = "luffy-pl fit --config conf/quickstart.yaml --config "
    assert done.stdout.count(f"{fit}conf/recipe/on_policy.yaml") == 2
    assert done.stdout.count(f"{fit}bundled:ablation/no_shaping") == 2
    assert "PL_GLOBAL_SEED" not in os.environ
