"""Every command of docs/ is run in the order of its page, in small."""

import shutil
import subprocess
from pathlib import Path

import pytest
import readme_commands
import yaml
from recipes.small_runs import SMALL

from docs.pages import ROOT, arguments, commands, files, pages
from docs.test_site import RUN_BY

pytestmark = pytest.mark.long

EIGHT = '[{name: heldout, source: {path: "bundled:heldout.jsonl", limit: 8}}]'
ENGINE = ["--data.engine.kind", "hf"]
ONE_PHASE = ["--data.rollout.num_phases", "1", "--data.rollout.prompts_per_phase", "2"]
OF_RUNS = ("report", "view", "status")
README = {line.removeprefix(".venv/bin/") for line in readme_commands.commands().values()}


@pytest.fixture(scope="module")
def finished(luffy_pl, tmp_path_factory):
    """A run of two phases, in place of those that a page takes for granted."""
    run = tmp_path_factory.mktemp("finished") / "run"
    done = luffy_pl("fit", "--config", "conf/quickstart.yaml", *SMALL, "--data.benchmarks", EIGHT,
                    "--data.rollout.num_phases", "2", "--run_dir", run, timeout=1500)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return run


def in_small(args):
    """The same command with less to do."""
    if "MY.yaml" in args:
        return [*[arg.replace("MY.yaml", "conf/quickstart.yaml") for arg in args], "--print_config"]
    if any("hub" in arg or arg == "conf/luffy.yaml" for arg in args):
        return [*[arg for arg in args if arg not in ("--dry_run", "true")], "--print_config"]
    if args[0] == "fit" and "--dry_run" not in args:
        return [
            *args,
            *SMALL,
            "--data.rollout.num_phases",
            "1",
            "--data.rollout.prompts_per_phase",
            "2",
        ]
    if args[0] == "validate":
        return [*args, *ENGINE, "--data.benchmarks", EIGHT]
    if args[0] == "sweep" and "--dry_run" not in args:
        return [*args, "--dry_run"]
    return args


@pytest.mark.parametrize("name", [name for name, page in pages().items() if commands(page)])
def test_the_commands_of_a_page(command_line, finished, tmp_path, monkeypatch, name):
    page = pages()[name]
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    moved = {"outputs/": f"{tmp_path}/outputs/"} | {
        file: f"{tmp_path}/{file}" for file in files(page)
    }

    def here(text):
        for old, new in moved.items():
            text = text.replace(old, new)
        return text

    for file, text in files(page).items():
        (tmp_path / file).write_text(here(text))
    for line in commands(page):
        if line.startswith(tuple(RUN_BY)) or line in README or line.startswith("make"):
            continue
        args = [here(arg) for arg in arguments(line)]
        for place, arg in enumerate(args):
            if arg.endswith("last.ckpt"):
                args[place] = str(finished / "checkpoints" / "last.ckpt")
            elif args[0] in OF_RUNS and "/outputs/" in arg and "." not in Path(arg).name:
                shutil.copytree(finished, arg, dirs_exist_ok=True)
        done = command_line(*in_small(args))
        if "wandb" in line and done.returncode:
            assert "needs the package wandb" in done.stderr
        else:
            assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"


def test_the_files_of_pages_are_what_they_are_called():
    for name, page in pages().items():
        for file, text in files(page).items():
            if file.endswith(".yaml"):
                assert isinstance(yaml.safe_load(text), dict), f"{name}: {file}"
            if file.endswith(".sbatch"):
                subprocess.run(["bash", "-n"], input=text, text=True, check=True)
                assert "luffy-pl fit --config" in text
    assert len(files(pages()["tutorials/recipe.md"])["my_recipe.yaml"].splitlines()) <= 40
    assert (ROOT / "docker" / "Dockerfile").exists()
