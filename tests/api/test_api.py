"""`luffy_pl.fit` and `luffy_pl.load_run`: the command line from Python."""

import subprocess
import sys
import textwrap

import pandas as pd
import pytest
from recipes.small_runs import SMALL

import luffy_pl
from luffy_pl.errors import ConfigError, StorageError

OVERRIDES = {
    **dict(zip((name.removeprefix("--") for name in SMALL[::2]), SMALL[1::2], strict=True)),
    "data.benchmarks": [],
    "samples.groups_per_phase": None,
    "data.rollout.num_phases": 2,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return luffy_pl.fit("bundled:quickstart", overrides={**OVERRIDES, "run_dir": folder})


@pytest.mark.slow
def test_metrics_are_rows(run):
    table = pd.DataFrame(run.metrics)
    assert list(table["phase"]) == [0, 1, 2]
    assert table["actor/lr"].notna().sum() == 2
    assert run.config["data"]["rollout"]["num_phases"] == 2


@pytest.mark.slow
def test_a_folder_is_the_run(run):
    again = luffy_pl.load_run(str(run.folder))
    assert again == run
    assert again.metrics == run.metrics
    assert run.folder.name in again.report()


@pytest.mark.slow
def test_a_run_is_evaluated_and_exported(run, tmp_path):
    few = {"name": "few", "source": {"path": "bundled:heldout.jsonl", "limit": 4}}
    [row] = run.evaluate(overrides={"data.benchmarks": [few]})
    assert (row["benchmark"], row["n"]) == ("few", 4)
    assert (run.export(tmp_path / "model") / "model.safetensors").exists()


@pytest.mark.slow
def test_an_error_has_its_class_and_fields(tmp_path):
    wrong = {"model.optimizer.lr": -1.0, "run_dir": tmp_path}
    with pytest.raises(ConfigError) as caught:
        luffy_pl.fit("bundled:quickstart", overrides=wrong)
    assert (caught.value.where, caught.value.exit_code) == ("model.optimizer.lr", 2)
    assert caught.value.value == -1.0


def test_a_name_of_no_file_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="did you mean bundled:recipe/hpt"):
        luffy_pl.fit("bundled:quickstart", "bundled:recipe/htp")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(StorageError):
        luffy_pl.load_run(tmp_path)


def test_the_import_is_light():
    program = """
        import sys, luffy_pl
        luffy_pl.fit, luffy_pl.load_run
        print(sorted({"torch", "lightning", "transformers"} & sys.modules.keys()))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
