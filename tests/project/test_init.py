"""`luffy-pl init`: what it writes runs as its README says. Of the wheel: api/test_installed.py."""

import io
import re
import shlex

import pytest
import yaml

from luffy_pl.cli import main
from luffy_pl.project.command import learns_from_traces, located, methods

METHODS = list(methods())
SMALL = ["--data.engine.kind", "hf", "--data.rollout.num_phases", "2"]


@pytest.fixture
def init(command_line, monkeypatch):
    """`luffy-pl init ARGS`, with answers for its questions."""

    def run(*args, answers=()):
        left = iter(answers)

        def answer(question):
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", answer)
        return command_line("init", *args)

    return run


def commands(folder):
    """Arguments of the commands of a README, in order."""
    readme = (folder / "README.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    found = [shlex.split(line) for line in "".join(blocks).splitlines()]
    assert all(program == "luffy-pl" for program, *_ in found)
    return [words for _, *words in found]


def test_the_readme_runs(init, tmp_path, monkeypatch):
    """All but the view, which opens a browser, in small."""
    assert init(tmp_path / "mine", "--yes").returncode == 0
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setattr("sys.stdin", io.StringIO("27-6=?\n"))
    checked, dry, fit, view, chat, export, plan, sweep = commands(tmp_path / "mine")
    benchmark = [{"name": "heldout", "source": {"path": "bundled:heldout.jsonl", "limit": 4}}]
    small = [*SMALL, "--data.benchmarks", yaml.safe_dump(benchmark, default_flow_style=True)]
    for words in (checked, dry, [*fit, *small], [*chat, "--engine", "hf"], export, plan):
        assert main(words) == 0, words
    assert view == ["view", "outputs/luffy"]
    assert sweep == ["sweep", "grid.yaml"]
    assert (tmp_path / "mine" / "outputs" / "luffy_model" / "model.safetensors").exists()


SOME = ("ghpo", "on_policy", "sft")


@pytest.mark.parametrize(
    "method",
    [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in METHODS],
)
def test_every_method_composes(init, command_line, tmp_path, method):
    folder = tmp_path / "mine"
    done = init(folder, "--yes", "--method", method)
    assert done.returncode == 0, done.stderr
    files = ["--config", folder / "config.yaml", "--config", folder / f"{method}.yaml"]
    done = command_line("fit", *files, "--dry_run", "true")
    assert done.returncode == 0, done.stderr
    assert {file.name for file in folder.iterdir()} == {
        "config.yaml", "grid.yaml", "README.md", f"{method}.yaml",
        "luffy.yaml" if method == "on_policy" else "on_policy.yaml",
    }  # fmt: skip


def test_questions_and_flags_say_the_same(init, tmp_path):
    (tmp_path / "rows.jsonl").touch()
    rows = str(tmp_path / "rows.jsonl")
    done = init(tmp_path / "asked", answers=["Qwen/Qwen2.5-0.5B", rows, "hpt"])
    assert done.returncode == 0, done.stderr
    flags = ["--model", "Qwen/Qwen2.5-0.5B", "--data", rows, "--method", "hpt"]
    assert init(tmp_path / "told", *flags).returncode == 0
    for file in ("config.yaml", "grid.yaml", "hpt.yaml"):
        asked, told = ((tmp_path / of / file).read_text() for of in ("asked", "told"))
        assert asked.replace("asked", "told") == told
    assert init(tmp_path / "enter", answers=["", "", ""]).returncode == 0
    assert init(tmp_path / "yes", "--yes").returncode == 0
    enter, yes = ((tmp_path / of / "config.yaml").read_text() for of in ("enter", "yes"))
    assert enter.replace("enter", "yes") == yes


def test_a_model_of_ones_own_gets_sizes_of_its_own(init, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    given = ["--model", "Qwen/Qwen2.5-0.5B", "--method", "on_policy", "--data", rows]
    assert init(tmp_path / "mine", *given).returncode == 0
    config = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    assert config["data"]["train"] == {"path": str(rows), "max_prompt_tokens": 1024}
    assert config["model"]["optimizer"]["lr"] == 1e-6
    assert config["data"]["benchmarks"] == []
    assert config["trainer"]["accelerator"] == "auto"


def test_a_path_is_that_of_the_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").touch()
    assert (
        located("data/rows.jsonl", tmp_path / "new" / "mine", "--data") == "../../data/rows.jsonl"
    )
    assert located("openai/gsm8k:main", tmp_path, "--data") == "openai/gsm8k:main"


def test_which_methods_learn_from_traces():
    found = {name for name, recipe in methods().items() if not learns_from_traces(recipe)}
    assert found == {"on_policy", "grpo_std", "dr_grpo", "dapo", "exgrpo", "cispo", "dppo", "sapo",
                     "gspo", "max_rl", "opd", "kdrl", "rlsd", "sdpo", "critique"}  # fmt: skip
    assert "kl_in_loss" not in methods()


def test_mistakes_are_one_line(init, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    new = tmp_path / "new"
    for args, code, says in (
        ([tmp_path / "full", "--yes"], 8, "is not empty"),
        ([tmp_path / "full" / "file", "--yes"], 8, "is not empty"),
        ([new, "--yes", "--method", "lufy"], 2, "did you mean luffy?"),
        ([new, "--yes", "--data", "no/such.jsonl"], 2, "--data: is no file here"),
        ([new, "--yes", "--model", "./models/x"], 2, "--model: is no file here"),
        ([new, "--yes", "--model", "bundled:bass"], 2, "did you mean bundled:base?"),
        ([new], 2, "give --yes for the defaults"),
    ):
        done = init(*args)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
        assert not new.exists()
