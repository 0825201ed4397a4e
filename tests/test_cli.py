"""The command line from outside: help, composition, and one line for each mistake."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
import yaml
from composing import fit, leaves

from luffy_pl.bundled import resolve
from luffy_pl.run import lightning_cli as run

ROOT = Path(__file__).parents[1]
QUICKSTART = ["--config", "conf/quickstart.yaml"]
RECIPES = sorted(str(f.relative_to(ROOT)) for f in (ROOT / "conf").glob("*.yaml"))
# Those of ablations are in callbacks/test_ablation.py, recipes in recipes/test_losses.py.
OVERLAYS = sorted(
    str(f.relative_to(ROOT))
    for f in (ROOT / "conf").glob("*/*.yaml")
    if f.parent.name not in ("ablation", "recipe")
)


def test_help_is_instant(true_start):
    before_s = cpu_of_children_s()
    done = true_start("--help")
    assert done.returncode == 0
    assert "fit --config conf/quickstart.yaml" in done.stdout
    assert len(done.stdout.splitlines()) <= 40
    assert cpu_of_children_s() - before_s < 1.0


def cpu_of_children_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.runs
@pytest.mark.parametrize("config", RECIPES)
def test_every_recipe_composes(config):
    assert fit(config).run_dir.startswith("outputs/")


@pytest.mark.runs
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_composes_and_changes_something(overlay):
    base = "conf/quickstart.yaml"
    assert leaves(fit(base, overlay)) != leaves(fit(base))


def test_a_configuration_is_printed(command_line):
    done = command_line("fit", *QUICKSTART, "--print_config")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["run_dir"] == "outputs/quickstart"


@pytest.mark.case(7)
def test_a_later_file_and_a_dotted_key_win(command_line, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("data: {rollout: {num_phases: 7, group_size: 4}}\n")
    done = command_line(
        "fit", *QUICKSTART, "--config", overlay, "--data.rollout.num_phases", "9", "--print_config"
    )
    assert done.returncode == 0, done.stderr
    rollout = yaml.safe_load(done.stdout)["data"]["rollout"]
    assert (rollout["num_phases"], rollout["group_size"]) == (9, 4)
    assert rollout["prompts_per_phase"] == 16  # from the first file, leaf by leaf


def rows(path, *changes):
    """The first bundled rows, changed, as a file."""
    lines = Path(resolve("bundled:train.jsonl")).read_text().splitlines()[: max(1, len(changes))]
    made = [{**json.loads(line), **change} for line, change in zip(lines, changes, strict=False)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def template(tmp_path, text):
    """A Jinja file."""
    (tmp_path / "chat.jinja").write_text(text)
    return tmp_path / "chat.jinja"


def long_benchmark(tmp_path):
    """A benchmark whose second problem has 120 digits; 3 tokens are the template's."""
    path = rows(tmp_path / "long.jsonl", {}, {"prompt": "1" * 120})
    return json.dumps([{"name": "long", "source": {"path": str(path)}}])


def no_template(tmp_path):
    """The bundled model with a tokenizer that has no chat template."""
    folder = tmp_path / "base"
    folder.mkdir()
    for file in Path(resolve("bundled:base")).iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def damaged(path, kind):
    """A file that --ckpt_path may name by mistake, or that a full disk left."""
    if kind == "text":
        path.write_text("model: {policy: {path: x}}\n")
    elif kind == "empty":
        path.touch()
    else:
        weights = {} if kind == "foreign" else {"luffy_pl": {"phases_trained": 1}}
        torch.save({"state_dict": {"w": torch.ones(1000)}, **weights}, path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def mesh(data, tensor):
    """Two ranks, or what else is given, that shard and cut."""
    sizes = {"data_parallel_size": data, "tensor_parallel_size": tensor}
    return [
        "--config", "conf/hardware/cpu_two_ranks.yaml",
        *(f"--trainer.strategy.init_args.{name}={size}" for name, size in sizes.items()),
    ]  # fmt: skip


MISTAKES = {
    # name: (arguments made from tmp_path, exit code, words of the one line)
    "misspelt key": (
        lambda tmp: ["--model.objective.entropy.coeff", "1"],
        2,
        ["model.objective.entropy.coeff", "did you mean model.objective.entropy.coef?"],
    ),
    "wrong choice": (
        lambda tmp: ["--model.objective.off_policy.shaping.kind", "pdivp"],
        2,
        ["model.objective.off_policy.shaping.kind", "did you mean p_div_p?", "'pdivp'"],
    ),
    "wrong type": (
        lambda tmp: ["--data.rollout.group_size", "eight"],
        2,
        ["data.rollout.group_size", "must be int", "'eight'"],
    ),
    "out of range": (
        lambda tmp: ["--data.rollout.group_size", "0"],
        2,
        ["data.rollout.group_size", "at least 1", "got 0"],
    ),
    "more traces than rows": (
        lambda tmp: ["--data.rollout.expert_traces_per_group", "9"],
        2,
        ["data.rollout.expert_traces_per_group", "data.rollout.group_size=8", "got 9"],
    ),
    "rows above the token budget": (
        lambda tmp: ["--model.optimizer.micro_batch_tokens", "20"],
        2,
        ["model.optimizer.micro_batch_tokens", "data.rollout.max_response_tokens", "got 20"],
    ),
    "prompts not divisible": (
        lambda tmp: ["--data.rollout.prompts_per_phase", "15"],
        2,
        ["data.rollout.prompts_per_phase", "model.optimizer.steps_per_phase=2", "got 15"],
    ),
    "imitation that counts nothing": (
        lambda tmp: ["--data.rollout.sft_phases", "2"],
        2,
        ["model.objective.sft.coef", "data.rollout.sft_phases"],
    ),
    "argument that is no text": (
        lambda tmp: ["--model.policy.path", "base\udcff"],
        2,
        ["argument 7: is not text in UTF-8", "\\udcff"],
    ),
    "missing config": (lambda tmp: ["--config", tmp / "no.yaml"], 2, ["no.yaml", "not exist"]),
    "missing checkpoint": (
        lambda tmp: ["--ckpt_path", tmp / "no.ckpt"],
        2,
        ["ckpt_path", "no such file", "no.ckpt"],
    ),
    "checkpoint cut off": (
        lambda tmp: ["--ckpt_path", damaged(tmp / "c.ckpt", "cut")],
        4,
        ["c.ckpt", "cannot be read as a checkpoint"],
    ),
    "empty checkpoint": (
        lambda tmp: ["--ckpt_path", damaged(tmp / "c.ckpt", "empty")],
        4,
        ["c.ckpt", "cannot be read as a checkpoint"],
    ),
    "text for a checkpoint": (
        lambda tmp: ["--ckpt_path", damaged(tmp / "c.yaml", "text")],
        4,
        ["c.yaml", "cannot be read as a checkpoint"],
    ),
    "checkpoint of another program": (
        lambda tmp: ["--ckpt_path", damaged(tmp / "c.ckpt", "foreign")],
        4,
        ["c.ckpt", "is no checkpoint of luffy-pl"],
    ),
    "no GPU": (
        lambda tmp: ["--trainer.accelerator", "gpu"],
        2,
        ["trainer.accelerator", "no CUDA GPU", "conf/quickstart.yaml"],
    ),
    "missing file": (
        lambda tmp: ["--data.train.path", tmp / "no.jsonl"],
        3,
        ["no.jsonl", "path"],
    ),
    "empty file": (
        lambda tmp: ["--data.train.path", (tmp / "e.jsonl").touch() or tmp / "e.jsonl"],
        3,
        ["e.jsonl", "0 rows"],
    ),
    "row without prompt": (
        lambda tmp: ["--data.train.path", rows(tmp / "r.jsonl", {}, {"prompt": None})],
        3,
        ["r.jsonl:2", "prompt"],
    ),
    "row without answer": (
        lambda tmp: [
            "--data.train.path",
            rows(tmp / "r.jsonl", {}, {}, {"reward_model": {"ground_truth": ""}}),
        ],
        3,
        ["r.jsonl:3", "answer is empty"],
    ),
    "fewer prompts than a phase": (
        lambda tmp: ["--data.train.path", rows(tmp / "r.jsonl", {}, {})],
        3,
        ["r.jsonl", "data.rollout.prompts_per_phase=16", "got 2"],
    ),
    "a column of answers that is none": (
        lambda tmp: [
            "--data.train.path",
            rows(tmp / "r.jsonl", *[{"reward_model": {"ground_truth": "?"}}] * 3),
        ],
        3,
        [
            "r.jsonl",
            "got 0",
            "3 of 3 rows dropped: bad_gold, first ",
            "Fix: correct data.train.col",
        ],
    ),
    "no model": (lambda tmp: ["--model.policy.path", tmp / "nothing"], 4, ["model.policy.path"]),
    "no chat template": (
        lambda tmp: ["--model.policy.path", no_template(tmp)],
        4,
        ["chat_template", "Fix:"],
    ),
    "template without end": (
        lambda tmp: ["--data.train.chat_template", template(tmp, "{{ 'x' * 10**10 }}")],
        4,
        ["chat_template", "more than 1 GiB of memory", "train.jsonl:1"],
    ),
    "something for a template that reads nothing": (
        lambda tmp: ["--data.chat_template_kwargs", "{enable_thinking: false}"],
        2,
        ["data.chat_template_kwargs", "'enable_thinking'", "the template reads nothing more"],
    ),
    "half a character": (
        lambda tmp: ["--data.train.path", rows(tmp / "r.jsonl", {}, {"data_source": "\ud800"})],
        3,
        ["r.jsonl:2", "data_source holds half of a surrogate pair"],
    ),
    "character that the model has no token for": (
        lambda tmp: ["--data.train.path", rows(tmp / "r.jsonl", {}, {"prompt": "1\0=?"})],
        3,
        ["r.jsonl:2", "no token for a part of the prompt"],
    ),
    "evaluation that does not fit": (
        lambda tmp: ["--data.benchmarks", long_benchmark(tmp)],
        3,
        ["long.jsonl:2", "the prompt has 123 tokens", "max_model_len=96"],
    ),
    "value of a section that may be null": (
        lambda tmp: ["--model.policy.lora.rank", "0"],
        2,
        ["] model.policy.lora.rank: must be at least 1 and at most 1e+06, got 0. Fix: "],
    ),
    "unknown option of a section that may be null": (
        lambda tmp: ["--model.policy.lora.r", "8"],
        2,
        ["] model.policy.lora.r: unknown option. Fix: did you mean model.policy.lora?"],
    ),
    "layer that cannot have an adapter": (
        lambda tmp: ["--model.policy.lora.target_modules", "[lm_head]"],
        2,
        ["] model.policy.lora.target_modules: embedding and head stay as they are, got 'lm_head'"],
    ),
    "sizes that are not the ranks'": (
        lambda tmp: [*mesh(2, 2), "--trainer.devices", "2"],
        2,
        ["data_parallel_size: times tensor_parallel_size=2 is not", "= 2, got 2. Fix: use 1"],
    ),
    "heads that cannot be divided": (
        lambda tmp: [*mesh(1, 3), "--trainer.devices", "3"],
        2,
        ["tensor_parallel_size: does not divide the model's num_attention_heads, 4, got 3"],
    ),
    "adapters on cut layers": (
        lambda tmp: [*mesh(1, 2), "--config", "conf/hardware/lora.yaml"],
        2,
        ["] model.policy.lora: does not go with layers that are cut"],
    ),
    "compiled cut layers": (
        lambda tmp: [*mesh(1, 2), "--model.policy.compile", "true"],
        2,
        ["] model.policy.compile: does not go with layers that are cut"],
    ),
    "nothing to resume": (lambda tmp: ["--resume", "true"], 8, ["holds no checkpoint"]),
}


@pytest.mark.case(1, 2, 3, 4, 5, 10, 12, 15, 22, 45)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(command_line, tmp_path, name):
    make_args, code, words = MISTAKES[name]
    args = make_args(tmp_path)
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path / "run", *args)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("luffy-pl: error")]
    assert done.returncode == code, line
    assert f"error [{code}]" in line
    assert "Fix: " in line
    for word in words:
        assert word in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.case(5)
def test_a_broken_yaml_names_the_file_and_the_place(command_line, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: {policy: {path: x}\n")
    done = command_line("fit", "--config", broken)
    assert done.returncode == 2
    assert "broken.yaml:2:1: broken YAML" in done.stderr


@pytest.mark.case(5)
def test_a_config_cannot_run_code(command_line, tmp_path):
    evil = tmp_path / "evil.yaml"
    evil.write_text(f'model: !!python/object/apply:os.system ["touch {tmp_path}/pwned"]\n')
    assert command_line("fit", "--config", evil).returncode == 2
    assert not (tmp_path / "pwned").exists()


@pytest.mark.case(6)
def test_an_undefined_variable_is_named(command_line, tmp_path):
    overlay = tmp_path / "o.yaml"
    overlay.write_text('model: {policy: {path: "${oc.env:LUFFY_NOWHERE}"}}\n')
    done = command_line("fit", *QUICKSTART, "--config", overlay)
    assert done.returncode == 2
    assert "model.policy.path" in done.stderr
    assert "LUFFY_NOWHERE" in done.stderr


def test_an_unknown_command_gets_a_suggestion(command_line):
    done = command_line("fitt")
    assert done.returncode == 2
    assert "did you mean fit?" in done.stderr


@pytest.mark.case(8)
def test_two_runs_never_share_a_folder(command_line, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path)
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert (tmp_path / "metrics.jsonl").exists()


def test_report_of_a_folder_that_is_no_run(command_line, tmp_path):
    done = command_line("report", tmp_path)
    assert done.returncode == 8
    assert "has no metrics.jsonl" in done.stderr


@pytest.mark.case(44)
def test_sigterm_before_a_run_is_one_line(command_line, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run, "check_settings", lambda config: os.kill(os.getpid(), signal.SIGTERM))
    done = command_line("fit", *QUICKSTART)
    assert (done.returncode, done.stderr) == (143, "luffy-pl: terminated [143]\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.case(45)
def test_a_checkpoint_cut_off_is_not_resumed(command_line, tmp_path):
    config = command_line("fit", *QUICKSTART, "--run_dir", tmp_path, "--print_config").stdout
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "phase-000007").mkdir()
    damaged(tmp_path / "checkpoints" / "phase-000007" / "state.ckpt", "cut")
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path, "--resume", "true")
    [line] = done.stderr.splitlines()
    assert done.returncode == 8
    assert "no whole checkpoint: phase-000007: it has no readable manifest.json" in line
