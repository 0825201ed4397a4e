"""`--dry_run true`: everything is read and said, nothing is written, no engine is started."""

import json
import shutil
from pathlib import Path

import pytest
from policy.families import tiny_model

from luffy_pl.bundled import resolve
from luffy_pl.experience import datamodule
from luffy_pl.run.dry_run import weights_missing
from luffy_pl.training import module

QUICKSTART = ["--config", "conf/quickstart.yaml", "--dry_run", "true"]


@pytest.fixture
def dry_run(command_line, tmp_path, monkeypatch):
    """The text of a dry run that was refused an engine and the module's policy."""

    def forbidden(*args, **kwargs):
        raise AssertionError("a dry run must not come here")

    monkeypatch.setattr(module, "load_policy", forbidden)
    monkeypatch.setattr(datamodule, "start_supervised", forbidden)
    monkeypatch.setenv("COLUMNS", "120")

    def run(command, *args):
        done = command_line(command, *QUICKSTART, "--run_dir", tmp_path / "run", *args)
        assert not (tmp_path / "run").exists()
        return done

    return run


def test_a_run_is_told_before_it_begins(dry_run):
    done = dry_run("fit", "--data.rollout.group_size", "4")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for expected in (
        "data.rollout.group_size 4 8",
        "model.objective.normalizer.constant_tokens 48 None",
        "trainer.accelerator cpu auto",
        "512 rows: 512 prompts, 512 expert traces",
        "60 phases of 16 prompts: 1.88 passes over the data, 120 optimizer steps",  # 960 / 512
        "a group: 3 rollouts of at most 48 tokens, 1 with an expert trace",
        "2880 rollouts, at most 138240 tokens",  # 60 * 16 * 3, * 48
        "heldout: 256 problems, 1 answers each; prompts: 15 to 17 tokens, median 16",
        "<user>23+9-5-2-8=?<assistant><think>",
        "next23+9=32then32-5=27now27-2=25then25-8=17</think>\\boxed{17}<eos>",
    ):
        assert expected in lines, f"{expected!r} is not in\n{done.stdout}"
    assert any(line.startswith("packed rows differ from rows alone by at most") for line in lines)
    assert any(line.startswith("bundled:base: 0.1 M parameters") for line in lines)
    assert any(line.startswith("peak, training") and line.endswith("fits") for line in lines)
    # What nobody set is not listed, nor what follows from another setting.
    assert not [line for line in lines if line.startswith(("data.seed", "data.model_path"))]
    assert not [line for line in lines if line.startswith("data.rollout.temperature")]


def tiny_folder(folder, family, **settings):
    """A model with the tokenizer of `bundled:base`."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(resolve("bundled:base")) / name, folder)
    tiny_model(family, vocab_size=27, pad_token_id=0, eos_token_id=1, **settings).save_pretrained(
        folder
    )
    return folder


def test_what_the_model_does_to_its_logits_is_said(dry_run, tmp_path):
    model = tiny_folder(tmp_path, "gemma3_text", final_logit_softcapping=5.0)
    done = dry_run("fit", "--model.policy.path", model)
    assert done.returncode == 0, done.stderr
    assert "the model changes its logits: factor 1, cap 5" in done.stdout
    assert "attention windows: 16 tokens" in done.stdout


def test_a_model_that_mixes_packed_rows_is_refused(dry_run, tmp_path):
    model = tiny_folder(tmp_path, "recurrent_gemma")
    done = dry_run("fit", "--model.policy.path", model)
    assert done.returncode == 4
    assert "a row reaches into the next one" in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_of_another_machine_are_not_compared(dry_run, monkeypatch, tmp_path):
    assert "not in a folder" in weights_missing(tmp_path)
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    assert "may not fit" in weights_missing(Path(resolve("bundled:base")))
    done = dry_run("fit")
    assert done.returncode == 0, done.stderr
    assert "not compared with its model: 0 GiB may not fit into memory" in done.stdout


def test_a_run_for_other_devices_is_told_too(dry_run):
    done = dry_run("fit", "--trainer.accelerator", "gpu", "--trainer.devices", "8")
    assert done.returncode == 0, done.stderr
    assert "a100-80g" in done.stdout


def test_an_evaluation_is_told_too(dry_run):
    done = dry_run("validate")
    assert done.returncode == 0, done.stderr
    assert "longer: 128 problems" in done.stdout
    assert "passes over the data" not in done.stdout
    assert "Memory and time" not in done.stdout
    assert "<assistant><think>" in done.stdout


def test_a_mistake_in_the_data_is_found(dry_run, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"question": "1+1=?"}\n')
    done = dry_run("fit", "--data.train.path", tmp_path / "bad.jsonl")
    assert done.returncode == 3
    assert "bad.jsonl:1" in done.stderr


def test_a_finished_run_is_left_alone(command_line, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path, "--overwrite", "true")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("form", ["lines", "array"])
@pytest.mark.parametrize("named_by", ["argument", "file"])
def test_rows_in_a_json_file_are_data_and_no_settings(dry_run, tmp_path, form, named_by):
    with Path(resolve("bundled:train.jsonl")).open() as file:
        lines = [next(file) for _ in range(40)]
    array = json.dumps([json.loads(line) for line in lines], indent=1)
    data = tmp_path / "rows.json"
    data.write_text("".join(lines) if form == "lines" else array)
    (tmp_path / "overlay.yaml").write_text(f"data: {{train: {{path: {data}}}}}\n")
    here = ["--data.train.path", data] if named_by == "argument" else []
    done = dry_run("fit", *(here or ["--config", tmp_path / "overlay.yaml"]))
    assert done.returncode == 0, done.stderr
    assert "40 rows: 40 prompts, 40 expert traces" in done.stdout


def test_what_does_not_fit_the_engine_is_counted(dry_run, tmp_path):
    with Path(resolve("bundled:train.jsonl")).open() as file:
        rows = [json.loads(next(file)) for _ in range(17)]
    rows[2]["prompt"] = "1" * 120
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = dry_run("fit", "--data.train.path", tmp_path / "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert "dropped: 1 prompt_too_long, first rows.jsonl:3 (123 tokens, at most 95" in done.stdout


def test_what_a_template_is_given_reaches_training_and_evaluation(dry_run, tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{% for m in messages %}<user>{{ m.content }}{% endfor %}{% if add_generation_prompt %}"
        "<assistant>{% if thinks %}<think>{% endif %}{% endif %}"
    )
    args = ["--data.train.chat_template", template, "--data.chat_template_kwargs.thinks", "true"]
    done = dry_run("fit", *args, "--data.benchmarks", "[]")
    assert done.returncode == 0, done.stderr
    assert "<user>23+9-5-2-8=?<assistant><think>" in done.stdout
    # The benchmarks' template is the tokenizer's own, which reads no such name.
    done = dry_run("fit", *args)
    assert done.returncode == 2
    assert "data.chat_template_kwargs: names something" in done.stderr
