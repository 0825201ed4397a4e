"""Input that comes from somebody else does nothing but be read, or refused, in one line."""

import ast
import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from recipes.small_runs import SMALL

from luffy_pl.bundled import resolve
from luffy_pl.config import guards
from luffy_pl.config.guards import check_config_file, check_writable
from luffy_pl.config.limits import split_allowed
from luffy_pl.data import tokenizer
from luffy_pl.errors import ConfigError
from luffy_pl.policy import policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.process import safe_start
from luffy_pl.process.safe_start import check_lightning
from luffy_pl.reward.reward import RewardConfig, build_verifier
from luffy_pl.rollout import hf_engine
from luffy_pl.rollout.engine import EngineConfig
from luffy_pl.sweep.results import read_csv, write_csv

QUICKSTART = ["--config", "conf/quickstart.yaml"]
SECRET = "hf_" + "Aa0" * 12


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported; the mark."""
    mark = tmp_path / "mark"
    for name in ("evil_mod", "own_mod"):
        (tmp_path / f"{name}.py").write_text(
            f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
            "from lightning.pytorch import Callback\nclass X(Callback): pass\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    return mark


def refused(done, *words, code=2):
    assert done.returncode == code, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("luffy-pl: error")]
    for word in (f"[{code}]", "Fix: ", *words):
        assert word in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "trainer: {callbacks: [{class_path: evil_mod.X}]}",
        "trainer: {callbacks: [evil_mod.X]}",
        "trainer: {logger: {class_path: evil_mod.X, init_args: {}}}",
        "trainer: {strategy: {class_path: evil_mod.X}}",
    ],
)
def test_a_class_of_another_package_is_not_imported(command_line, tmp_path, evil, text):
    (tmp_path / "evil.yaml").write_text(text + "\n")
    run = ["--run_dir", tmp_path / "run"]
    done = command_line("fit", *QUICKSTART, "--config", tmp_path / "evil.yaml", *run)
    refused(done, "evil_mod.X", "--allow_import evil_mod")
    assert not evil.exists()


def test_a_package_of_ones_own_is_allowed_on_the_command_line_alone(command_line, tmp_path, evil):
    (tmp_path / "own.yaml").write_text("trainer: {callbacks: [{class_path: own_mod.X}]}\n")
    run = [*QUICKSTART, "--config", tmp_path / "own.yaml", "--print_config"]
    done = command_line("fit", "--allow_import", "own_mod", *run)
    assert done.returncode == 0, done.stderr
    assert evil.exists()
    # And to that command alone.
    refused(command_line("fit", *run), "own_mod.X", "--allow_import own_mod")
    assert split_allowed(["a", "--allow_import=b,c.d", "e"]) == (["a", "e"], ["b", "c.d"])
    with pytest.raises(ConfigError, match="must name packages"):
        split_allowed(["--allow_import", "*"])


def test_functions_of_the_system_are_no_setting(command_line, tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "evil.yaml").write_text(
        "trainer: {strategy: {class_path: FSDPStrategy, init_args: {auto_wrap_policy: "
        f"{{class_path: os.system, init_args: {{command: touch {mark}}}}}}}}}}}\n"
    )
    done = command_line("fit", *QUICKSTART, "--config", tmp_path / "evil.yaml")
    assert done.returncode == 2
    assert not mark.exists()


BILLION = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.case(5)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BILLION, ["unfolds into more than"]),
        ("a: &a [*a]\n", ["unfolds into more than"]),
        ("[" * 3000, ["nested too deep"]),
        ('model: !!python/object/apply:os.system ["touch x"]\n', ["file.yaml:1", "a tag"]),
        ("model: !evil {x: 1}\n", ["file.yaml:1", "a tag"]),
        ("x" * 1_000_001, ["is no configuration"]),
        (f"\n\nmodel: {{policy: {{path: {SECRET}}}}}\n", ["file.yaml:3", "token or password"]),
        ("data: {train: {path: 'https://me:word@host/x.jsonl'}}\n", ["token or password"]),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(command_line, tmp_path, text, words):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    done = command_line("fit", "--config", file)
    refused(done, *words)
    assert SECRET not in done.stderr
    # Also where another file names it.
    (tmp_path / "outer.yaml").write_text("data: file.yaml\n")
    with pytest.raises(ConfigError):
        check_config_file(str(tmp_path / "outer.yaml"))


def test_anchors_are_allowed(tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text("a: &a {x: 1}\nb: *a\n")
    check_config_file(str(file))


def test_a_secret_on_the_command_line_is_refused(command_line):
    done = command_line("fit", *QUICKSTART, "--model.policy.path", SECRET)
    refused(done, "token or password")
    assert SECRET not in done.stdout + done.stderr


ESCAPED = SECRET.replace("A", r"\x41")


@pytest.mark.parametrize("name", ["plain.yaml", "no_suffix"])
@pytest.mark.parametrize(
    "text",
    [
        f'model: {{policy: {{path: "{ESCAPED}"}}}}\n',
        f'model: {{policy: {{path: "{SECRET[:12]}\\\n    {SECRET[12:]}"}}}}\n',
        f"{SECRET}: 1\n",
        f"ablation: {{value: {{a: [1, {{b: {SECRET}}}]}}}}\n",
    ],
    ids=["escaped", "folded", "a key", "deep"],
)
def test_a_secret_is_found_as_it_is_read(command_line, tmp_path, name, text):
    """Whatever it is written as, and in whatever file."""
    (tmp_path / name).write_text(text)
    done = command_line("fit", *QUICKSTART, "--config", tmp_path / name)
    refused(done, f"{tmp_path / name}:1: ", "token or password")
    assert SECRET not in done.stdout + done.stderr


def test_a_secret_of_a_section_or_an_argument_is_found_too(command_line, tmp_path):
    done = command_line("fit", *QUICKSTART, f'--model.policy.path="{ESCAPED}"')
    refused(done, "argument 4", "token or password")
    # A file that only the parser knows to be one.
    (tmp_path / "section").write_text(f'{{path: "{ESCAPED}"}}')
    done = command_line("fit", *QUICKSTART, "--model.policy", tmp_path / "section")
    refused(done, "model.policy.path", "token or password")
    done = command_line("data", "prepare", "openr1", "--out", tmp_path / "out", "--path", SECRET)
    refused(done, "token or password")


def test_configured_text_is_filled_in_and_not_formatted(command_line, tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY", "canary-secret")
    secret = "{run_dir.is_file.__globals__[os].environ} {run_dir} {0} {"
    done = command_line(
        "fit", *QUICKSTART, *SMALL, "--data.rollout.num_phases", "1", "--run_dir", tmp_path / "run",
        "--evaluation.every_n_phases", "1", "--data.benchmarks",
        '[{"name": "b", "source": {"path": "bundled:heldout.jsonl", "limit": 1}}]',
        "--summary.next_commands", json.dumps([secret]), "--summary.next_commands_of", "null",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "canary-secret" not in done.stdout
    assert secret.replace("{run_dir}", str(tmp_path / "run")) in done.stdout


def test_only_texts_of_the_code_are_formatted():
    """`str.format` looks attributes up: with a text from elsewhere it shows all that Python has."""
    wrong = []
    for file in Path(guards.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("format", "format_map"):
                owner = ast.unparse(node.value)
                # A constant, written here or under a name in capitals; and logging's method.
                if not (isinstance(node.value, ast.Constant) or owner.isupper() or owner == "self"):
                    wrong.append(f"{file.name}: {owner}.{node.attr}")
    assert wrong == []


@pytest.mark.case(6)
def test_a_secret_of_the_environment_stays_there(command_line, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "canary-secret")
    monkeypatch.setenv("LUFFY_HERE", "bundled:base")
    overlay = tmp_path / "o.yaml"
    overlay.write_text('model: {policy: {path: "${oc.env:HF_TOKEN}"}}\n')
    done = command_line("fit", *QUICKSTART, "--config", overlay, "--print_config")
    refused(done, "HF_TOKEN", "model.policy.path")
    assert "canary-secret" not in done.stdout + done.stderr
    overlay.write_text('model: {policy: {path: "${oc.env:LUFFY_HERE}"}}\n')
    done = command_line("fit", *QUICKSTART, "--config", overlay, "--print_config")
    assert "bundled:base" in done.stdout


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_malicious_checkpoint_does_nothing(command_line, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "evil.ckpt"
    torch.save({"luffy_pl": {}, "state_dict": Malicious(mark)}, path)
    run = [*QUICKSTART, "--run_dir", tmp_path / "run", "--ckpt_path", path]
    refused(command_line("fit", *run), "evil.ckpt", "cannot be read", code=4)
    refused(command_line("validate", *run), "evil.ckpt", "cannot be read", code=4)
    assert not mark.exists()


@pytest.mark.parametrize("path", ["https://host/x.ckpt", "s3://bucket/x.ckpt", "registry:x"])
def test_a_remote_checkpoint_is_refused(command_line, tmp_path, path):
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path / "run", "--ckpt_path", path)
    refused(done, "ckpt_path", "copied first")


def test_pickles_cannot_be_allowed(command_line, tmp_path):
    run = [*QUICKSTART, "--run_dir", tmp_path / "run", "--weights_only", "false"]
    refused(command_line("fit", *run), "weights_only", "run code")


@pytest.mark.parametrize("found", ["2.6.2", "2.6.3", "2.6.5", "2.5.0"])
def test_bad_versions_of_lightning_are_refused(command_line, monkeypatch, found):
    monkeypatch.setattr(safe_start, "version", lambda name: found)
    refused(command_line("fit", *QUICKSTART), "lightning", found)


def test_the_installed_lightning_is_allowed_and_ours():
    check_lightning()
    files = importlib.metadata.files("lightning")
    assert not [file for file in files if "_runtime" in file.parts]


def test_nothing_phones_home(command_line, monkeypatch):
    for name in safe_start.QUIET_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    command_line("report", "no_run")
    assert os.environ["DO_NOT_TRACK"] == os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    # Nor do bars of transformers stand between our lines.
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_pickles_between_processes_are_refused(command_line, monkeypatch):
    monkeypatch.setenv(safe_start.UNSAFE_ENVIRONMENT, "1")
    refused(command_line("fit", *QUICKSTART), safe_start.UNSAFE_ENVIRONMENT)


@pytest.mark.parametrize("run_dir", ["s3://bucket/run", "a\x1b[31mb"])
def test_a_run_lives_in_a_plain_folder(run_dir):
    with pytest.raises(ConfigError, match="no local folder"):
        check_writable(run_dir)


@pytest.mark.case(46)
def test_a_run_directory_that_cannot_be_written_is_said_at_once(command_line, tmp_path):
    (tmp_path / "file").write_text("here already")
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path / "file" / "run")
    refused(done, "file/run: cannot be written (Not a directory)", code=8)


def model_folder(tmp_path, **config):
    folder = tmp_path / "model"
    shutil.copytree(resolve("bundled:base"), folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **config}))
    return folder


def test_code_that_a_model_brings_along_is_not_run(command_line, tmp_path):
    mark = tmp_path / "mark"
    folder = model_folder(
        tmp_path,
        model_type="evil",
        auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
    )
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    run = [*QUICKSTART, "--run_dir", tmp_path / "run", "--model.policy.path", folder]
    refused(command_line("fit", *run), "model.policy.path", code=4)
    assert not mark.exists()


def test_code_of_a_model_needs_its_commit_and_reaches_every_reader(command_line, monkeypatch):
    run = [*QUICKSTART, "--model.policy.remote_code"]
    refused(command_line("fit", *run, "main"), "model.policy.remote_code", "commit", "'main'")
    commit = "0123456789abcdef" * 2 + "01234567"
    done = command_line("fit", *run, commit, "--print_config")
    assert done.returncode == 0, done.stderr
    asked = []

    class Asked(Exception):
        pass

    def from_pretrained(path, **arguments):
        asked.append(arguments)
        raise Asked

    for reader in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(reader, "from_pretrained", from_pretrained)
    config = EngineConfig(remote_code=commit)
    for read in (
        lambda: tokenizer.load_tokenizer("hub/name", remote_code=commit),
        lambda: policy.load_policy(PolicyConfig("hub/name", remote_code=commit), "hub/name"),
        lambda: hf_engine.HfEngine("hub/name", config, stop_token_ids=[1]),
    ):
        with pytest.raises(Asked):
            read()
    assert len(asked) == 3
    for arguments in asked:
        assert arguments["trust_remote_code"] is True
        assert arguments["revision"] == arguments["code_revision"] == commit


def test_weights_in_a_pickle_are_refused(command_line, tmp_path):
    mark, folder = tmp_path / "mark", model_folder(tmp_path)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save(Malicious(mark), folder / "pytorch_model.bin")
    run = [*QUICKSTART, "--run_dir", tmp_path / "run", "--model.policy.path", folder]
    refused(
        command_line("fit", *run, "--data.engine.kind", "hf"),
        "holds no weights (*.safetensors)",
        code=4,
    )
    assert not mark.exists()


@pytest.mark.parametrize("name", ["evil.pkl", "evil.py", "evil.tar"])
def test_a_data_set_is_text_or_parquet(command_line, tmp_path, name):
    mark = tmp_path / "mark"
    (tmp_path / name).write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    run = [*QUICKSTART, "--run_dir", tmp_path / "run", "--data.train.path", tmp_path / name]
    refused(command_line("fit", *run), "is no format of data that is read", code=3)
    assert not mark.exists()


def test_golds_and_answers_are_never_run(tmp_path):
    mark = tmp_path / "mark"
    evil = [
        f"__import__('os').system('touch {mark}')",
        f"\\text{{__import__('os').system('touch {mark}')}}",
        f"exec(\"open('{mark}','w')\")",
        f"=cmd|'/c touch {mark}'!A1",
        f"<script>touch {mark}</script>",
        f"\x1b]8;;file://{mark}\x07x\x1b]8;;\x07",
    ]
    pairs = [(f"\\boxed{{{text}}}", gold) for text in evil for gold in [*evil, "x+1"]]
    with build_verifier(RewardConfig(think_end=None)) as verifier:
        verifier.check_golds(evil)
        assert len(verifier.grade(pairs)) == len(pairs)
    assert not mark.exists()


def test_an_error_moves_no_cursor(command_line, tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"id": "\x1b]0;title\x07\x1b[2J", "prompt": "1+1", "answer": "the parabola", "trace": ""}
    path.write_text(json.dumps(row) + "\n")
    args = ["--data.train.path", path, "--data.train.require_trace", "false"]
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path / "run\x1b[1m", *args)
    assert done.returncode != 0
    assert "\x1b" not in done.stderr
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path / "run", *args)
    assert done.returncode == 3
    assert "\x1b" not in done.stderr


def test_a_spreadsheet_computes_nothing(tmp_path):
    values = ["=cmd|'/c calc'!A1", "@SUM(1)", "+x", "-1.5", "-1.5e3", "plain", 2.5]
    write_csv(tmp_path / "r.csv", ["v"], [{"v": value} for value in values])
    found = [row["v"] for row in read_csv(tmp_path / "r.csv", needs=["v"])]
    assert found == ["'=cmd|'/c calc'!A1", "'@SUM(1)", "'+x", "-1.5", "-1.5e3", "plain", "2.5"]


@pytest.mark.slow
def test_a_secret_of_the_environment_is_in_no_file_of_a_run(command_line, tmp_path, monkeypatch):
    canary = "canary-5e6c0ffee"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "MY_PW"):
        monkeypatch.setenv(name, canary)
    run_dir = tmp_path / "run"
    done = command_line(
        "fit", *QUICKSTART, "--run_dir", run_dir, "--data.engine.kind", "hf",
        "--data.rollout.num_phases", "1", "--data.rollout.prompts_per_phase", "2",
        "--data.rollout.group_size", "2", "--data.benchmarks", "[]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert command_line("report", run_dir).returncode == 0
    files = [file for file in run_dir.rglob("*") if file.is_file()]
    assert {"config.yaml", "metrics.jsonl", "last.ckpt"} <= {file.name for file in files}
    assert any(file.name.startswith("events") for file in files)
    assert [file for file in files if canary.encode() in file.read_bytes()] == []
    assert canary not in done.stdout + done.stderr


def test_no_module_of_ours_holds_a_debugger_or_unpickles():
    """What ruff does not look for."""
    package = Path(guards.__file__).parents[1]
    text = {file: file.read_text() for file in package.rglob("*.py")}
    # Left out, `trust_remote_code` is a question on the terminal.
    for reader in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        for file, content in text.items():
            for call in content.split(f"{reader}.from_pretrained(")[1:]:
                told = call.partition(")\n")[0]
                assert any(word in told for word in ("code", "gguf_file")), (file, reader)
    for content in text.values():
        assert content.count("torch.load(") <= content.count("weights_only=True")
    for word in ("trust_remote_code=True", "import pickle", "shell=True"):
        assert [file for file, content in text.items() if word in content] == []
