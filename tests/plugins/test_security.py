"""No file has code run: which plugins and packages are loaded the caller alone says."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from recipes.small_runs import SMALL

from luffy_pl.cli import main
from luffy_pl.errors import ConfigError
from luffy_pl.registry import load_plugins
from luffy_pl.sweep.grid import read_grid
from luffy_pl.sweep.plan import make_cells
from luffy_pl.sweep.runner import make_job

QUICKSTART = ["--config", "conf/quickstart.yaml"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a plugin that leaves a mark when it is loaded: run, plugin, mark."""
    folder = tmp_path_factory.mktemp("finished")
    mark, plugin = folder / "mark", folder / "marking.py"
    plugin.write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom luffy_pl.registry import register\n"
        '@register("reward", "nothing")\ndef nothing(prompt, response):\n    return 0.0\n'
    )
    config = ["--config", str(ROOT / "conf" / "quickstart.yaml")]
    words = ["--data.rollout.num_phases", "1", "--data.rollout.prompts_per_phase", "4"]
    assert main(["fit", *config, *SMALL, *words, "--run_dir", str(folder / "run"),
                 "--plugin", str(plugin)]) == 0  # fmt: skip
    return folder / "run", plugin, mark


@pytest.fixture
def unmarked(finished):
    run, plugin, mark = finished
    mark.unlink(missing_ok=True)
    yield run, plugin, mark
    assert not mark.exists()


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module and plugin that leaves a mark when it is imported; the mark."""
    (tmp_path / "evil_mod.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil_mod", raising=False)
    yield tmp_path / "evil_mod.py"
    assert not (tmp_path / "mark").exists()


def refused(done, *words):
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    for word in (*words, "Fix: "):
        assert word in line


SAID = {"plugin": "{file}", "allow_import": "evil_mod"}


@pytest.mark.parametrize("option", SAID)
@pytest.mark.parametrize("under", ["", "fit: "])
def test_a_configuration_cannot_have_code_run(command_line, tmp_path, evil, option, under):
    overlay = tmp_path / "overlay.yaml"
    setting = {option: SAID[option].format(file=evil)}
    content = {"fit": setting} if under else setting
    overlay.write_text("trainer: {}\n" + yaml.safe_dump(content))
    run = ["--run_dir", tmp_path / "run"]
    done = command_line("fit", *QUICKSTART, "--config", overlay, *run)
    refused(done, "overlay.yaml:", f"says {option}", f"add --{option} to the command")
    done = command_line("data", "check", "--config", "conf/quickstart.yaml", "--config", overlay)
    refused(done, f"says {option}")


@pytest.mark.parametrize("option", SAID)
@pytest.mark.parametrize("place", ["set", "configs"])
def test_a_grid_cannot_have_code_run(command_line, tmp_path, evil, option, place):
    value = SAID[option].format(file=evil)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({option: value}))
    cell = {"set": {option: value}} if place == "set" else {"configs": [str(overlay)]}
    grid = {"name": "g", "base": QUICKSTART[1:], "cells": {"a": cell}, "run_dir": str(tmp_path)}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    refused(command_line("sweep", tmp_path / "grid.yaml", "--dry_run"), option)


@pytest.mark.parametrize("name", ["--plugin=evil_mod.py", "--allow_import=evil_mod"])
def test_a_file_of_a_grid_is_not_taken_for_an_option(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("seed_everything: 0\n")
    Path("grid.yaml").write_text(yaml.safe_dump({"name": "g", "base": [name], "cells": {"a": {}}}))
    with pytest.raises(ConfigError, match="base: looks like an option"):
        read_grid(Path("grid.yaml"))


@pytest.mark.parametrize("option", SAID)
def test_the_folder_of_a_run_cannot_have_code_run(command_line, tmp_path, finished, evil, option):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    with (run / "config.yaml").open("a") as config:
        config.write(yaml.safe_dump({option: SAID[option].format(file=evil)}))
    for command in ("fit", "validate"):
        words = ["--config", run / "config.yaml", "--run_dir", run, "--resume", "true"]
        refused(command_line(command, *words), "config.yaml:", f"says {option}")
    refused(command_line("fit", "--run_dir", run, "--resume", "true"), f"says {option}")


@pytest.mark.parametrize("option", SAID)
def test_a_card_cannot_have_code_run(command_line, tmp_path, finished, evil, option):
    out = tmp_path / "model"
    done = command_line("export", finished[0], "--out", out)
    assert done.returncode == 0, done.stderr
    value = SAID[option].format(file=evil)
    for file in ("README.md", "training_config.yaml", "config.json"):
        text = (out / file).read_text()
        if file == "config.json":
            text = json.dumps({**json.loads(text), option: value})
        (out / file).write_text(text.replace("---\n", f"---\n{option}: {value}\n", 1))
    with (out / "training_config.yaml").open("a") as config:
        config.write(yaml.safe_dump({option: value}))
    run = ["--run_dir", tmp_path / "again"]
    done = command_line("fit", "--config", out / "training_config.yaml", *run)
    refused(done, "training_config.yaml:", f"says {option}")
    asked = ["--model.policy.path", out, "--dry_run", "true"]
    done = command_line("validate", *QUICKSTART, *SMALL, *asked, *run)
    assert done.returncode == 0, done.stderr


def test_nothing_loads_what_the_folder_of_a_run_names(
    command_line, tmp_path, unmarked, monkeypatch
):
    run, plugin, _ = unmarked
    [written] = yaml.safe_load((run / "config.yaml").read_text())["plugins"]
    assert written["path"] == str(plugin)
    assert command_line("report", run).returncode == 0
    done = command_line("view", run, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    done = command_line("export", run, "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    for asked in (run, tmp_path / "model"):
        monkeypatch.setattr("sys.stdin", io.StringIO("2+3=?\n"))
        done = command_line("chat", asked, "--engine", "hf")
        assert done.returncode == 0, done.stderr
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"| marking.py | {written['sha256']} |" in card
    config = ["--config", run / "config.yaml", "--dry_run", "true", "--run_dir", tmp_path / "new"]
    for command in ("validate", "fit"):
        done = command_line(command, *config)
        assert done.returncode == 0, done.stderr
        assert f"--plugin {plugin}, which is not given" in done.stderr
    done = command_line("fit", "--run_dir", run, "--resume", "true")
    refused(done, f"add --plugin {plugin}")


def test_the_record_of_plugins_is_no_way_to_load_one(command_line, tmp_path, unmarked):
    _, plugin, _ = unmarked
    for words in (["--plugins", f"[{plugin}]"], [f"--plugins={plugin}"]):
        done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path, *words)
        refused(done, "--plugins", "use --plugin FILE.py")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"plugins": [{"path": str(plugin), "sha256": "0"}]}))
    words = ["--config", overlay, "--dry_run", "true", "--run_dir", tmp_path]
    assert command_line("fit", *QUICKSTART, *words).returncode == 0


def test_a_sweep_hands_its_own_plugins_to_its_cells(command_line, tmp_path, finished):
    plugin, allowed = finished[1], ["--allow_import", "evil_mod"]
    cells = {"a": {"set": {"data.reward.terms": {"nothing": 1.0}}}}
    grid = {"name": "g", "base": QUICKSTART[1:], "cells": cells, "run_dir": str(tmp_path)}
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid))
    done = command_line("sweep", file, "--dry_run", "--plugin", plugin, *allowed)
    assert done.returncode == 0, done.stderr
    assert f"--plugin={plugin} --allow_import=evil_mod" in " ".join(done.stdout.split())
    refused(command_line("sweep", file, "--dry_run"), "is no reward, got 'nothing'")

    grid = read_grid(file)
    [before] = make_cells(grid)
    load_plugins([str(plugin)])
    [cell] = make_cells(grid, ["evil_mod"])
    # Every launcher runs this command.
    assert make_job(cell, None, 1).command[-2:] == (
        f"--plugin={plugin}",
        "--allow_import=evil_mod",
    )
    assert cell.fingerprint != before.fingerprint
