"""The wheel alone, in an empty folder: a command and the tutorial need nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from scripts import load

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOURCES = ("luffy_pl", "conf", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
SMALL = [
    "--data.engine.kind", "hf", "--data.rollout.num_phases", "2", "--data.benchmarks", "[]",
]  # fmt: skip


dist = load("release", "dist.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What the wheel holds, in a folder."""
    clone, wheels, site = (tmp_path_factory.mktemp(name) for name in ("clone", "wheels", "site"))
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, clone / name)
    # As `make dist` does: the wheel is made from the archive.
    wheel = dist.build_wheel(dist.build_archive(clone, wheels), wheels)
    dist.check(wheel)
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.fixture
def python(installed, tmp_path):
    """Run Python in an empty folder, with the package from the wheel."""

    def run(*args, path=(), input=""):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*path, str(installed)])}
        return subprocess.run(
            [sys.executable, *args], cwd=tmp_path, env=environment, capture_output=True, text=True,
            input=input, check=False,
        )  # fmt: skip

    return run


def test_the_package_has_types_configurations_and_its_licence(installed):
    assert (installed / "luffy_pl" / "py.typed").exists()
    shipped = {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.*")}
    assert all((installed / "luffy_pl" / "conf" / file).is_file() for file in shipped)
    assert list(installed.glob("*.dist-info/licenses/LICENSE"))


def test_the_quickstart_trains_in_an_empty_folder_of_another_system(python, tmp_path):
    """Without what only Linux has, and without vLLM: `auto` takes transformers."""
    other = [str(Path(__file__).parent / "other_system")]
    shorter = ["--data.rollout.num_phases", "2", "--data.benchmarks", "[]"]
    done = python("-m", "luffy_pl.cli", "quickstart", *shorter, path=other)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "quickstart" / "metrics.jsonl").exists()
    lost = "import os, ctypes, vllm; print(hasattr(os, 'sched_getaffinity'))"
    assert "ModuleNotFoundError" in python("-c", lost, path=other).stderr


def test_a_project_begins_from_the_wheel(python, tmp_path):
    done = python("-m", "luffy_pl.cli", "init", "mine", "--yes")
    assert done.returncode == 0, done.stderr
    written = {file.name for file in (tmp_path / "mine").iterdir()}
    assert written == {"README.md", "config.yaml", "grid.yaml", "luffy.yaml", "on_policy.yaml"}


@pytest.mark.long
def test_a_project_of_the_wheel_trains_and_talks(python, tmp_path):
    """As its README says, and a bundled recipe over it."""
    assert python("-m", "luffy_pl.cli", "init", ".", "--yes").returncode == 0
    files = ["--config", "config.yaml", "--config", "luffy.yaml", "--run_dir", "outputs/luffy"]
    done = python("-m", "luffy_pl.cli", "fit", *files, *SMALL)
    assert done.returncode == 0, done.stderr
    recipe = [
        "--config",
        "config.yaml",
        "--config",
        "bundled:recipe/hpt",
        "--run_dir",
        "outputs/hpt",
    ]
    done = python("-m", "luffy_pl.cli", "fit", *recipe, *SMALL)
    assert done.returncode == 0, done.stderr
    talk = ["chat", "outputs/luffy", "--engine", "hf", "--temperature", "0"]
    done = python("-m", "luffy_pl.cli", *talk, input="27-6=?\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("so27-6=21")


def test_the_tutorial_runs_as_it_is_written(python, tmp_path):
    page = (ROOT / "docs" / "tutorials" / "python.md").read_text()
    blocks = re.findall(r"```python(?: title=\"(.*?)\")?\n(.*?)```", page, re.DOTALL)
    reward, train, error = (text for _, text in blocks)
    assert [name for name, _ in blocks] == ["my_reward.py", "train.py", ""]
    (tmp_path / "my_reward.py").write_text(reward)
    shorter = {
        '"data.rollout.num_phases": 20': '"data.rollout.num_phases": 2',
        "overrides={": 'overrides={"data.engine.kind": "hf", "evaluation.every_n_phases": None, ',
    }
    for old, new in shorter.items():
        assert old in train
        train = train.replace(old, new)
    (tmp_path / "train.py").write_text(train + error)
    done = python("train.py")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for benchmark in ("heldout", "longer", "shorter"):
        assert any(line.startswith(f"2 {benchmark} ") for line in lines)
    assert lines[-1] == "bundled:recipe/htp did you mean bundled:recipe/hpt?"


OWN_REWARD = """
from luffy_pl.registry import register

@register("reward", "brief")
def brief(prompt, response):
    return float(len(response.text) <= int(prompt.columns["budget"]))
"""


def test_a_reward_of_a_file_pays_rows_of_a_spreadsheet_without_golds(python, tmp_path):
    (tmp_path / "brief.py").write_text(OWN_REWARD)
    rows = "".join(f"{n}+{n}=?,{n}\n" for n in range(10, 18))
    (tmp_path / "rows.csv").write_text("question,budget\n" + rows)
    done = python(
        "-m", "luffy_pl.cli", "fit", "--config", "bundled:quickstart",
        "--config", "bundled:recipe/on_policy", *SMALL, "--plugin", "brief.py",
        "--data.train.path", "rows.csv", "--data.train.require_trace", "false",
        "--data.reward.grader", "none", "--data.reward.terms", "{brief: 1.0}",
        "--data.rollout.prompts_per_phase", "2", "--run_dir", "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "rollouts" / "phase-000001.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        [budget] = [n for n in range(10, 18) if f"{n}+{n}=?" in line["prompt"]]
        assert line["reward"] == float(len(line["response"]) <= budget)
