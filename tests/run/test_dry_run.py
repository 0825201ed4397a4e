"""`--dry_run`: everything is read and said, nothing is written, no engine is started."""

import json
import re
import shutil
from pathlib import Path

import pytest
from policy.families import tiny_model

from luffy_pl.bundled import resolve
from luffy_pl.cli import main
from luffy_pl.experience import datamodule
from luffy_pl.process.folder_lock import alone
from luffy_pl.run import dry_run as told
from luffy_pl.run.dry_run import weights_missing
from luffy_pl.training import module

QUICKSTART = ["--config", "conf/quickstart.yaml", "--dry_run"]
KEPT = Path(__file__).parents[1] / "run_dir" / "run_f22e8fd"


@pytest.fixture
def refuse(monkeypatch):
    """No engine is started, and the module's policy is not loaded."""

    def forbidden(*args, **kwargs):
        raise AssertionError("a dry run must not come here")

    monkeypatch.setattr(module, "load_on_ranks", forbidden)
    monkeypatch.setattr(datamodule, "start_supervised", forbidden)


@pytest.fixture
def dry_run(command_line, tmp_path, refuse):
    """What a dry run of the quickstart says; it writes nothing."""

    def run(command, *args):
        done = command_line(command, *QUICKSTART, "--run_dir", tmp_path / "run", *args)
        assert not (tmp_path / "run").exists()
        return done

    return run


def test_a_run_is_told_before_it_begins(dry_run, tmp_path):
    done = dry_run("fit", "--data.rollout.group_size", "4")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for expected in (
        f"runs      fit of recipe luffy, from the beginning, in {tmp_path / 'run'}",
        "model     bundled:base: 0.1 M parameters, float32; engine auto",
        "devices   1 x cpu, precision 32-true",
        "differs   1 setting from conf/quickstart.yaml",
        "            data.rollout.group_size: 4 (was 8)",
        "data      512 rows: 512 prompts, 512 expert traces",
        "          prompts of 15 to 17 tokens, median 16; traces of 38 to 46 tokens, median 42",
        "a phase   16 prompts x (3 rollouts of at most 48 tokens + 1 expert trace), "
        "2 optimizer steps",
        "in all    60 phases, 1.88 passes over the data, 120 optimizer steps, 2,880 rollouts, "
        "at most 138,240 tokens",  # 960 / 512, 60 * 16 * 3, * 48
        "          | <user>23+9-5-2-8=?<assistant><think>",
        "          | next23+9=32then32-5=27now27-2=25then25-8=17</think>\\boxed{17}<eos>",
    ):
        assert expected in lines, f"{expected!r} is not in\n{done.stdout}"
    for beginning in ("evaluates heldout 256 x 1, longer 128 x 1, shorter 192 x 1 answers, before, "
                      "every 20 phases, at the end",
                      "memory    training ", "time      a phase samples for ",
                      "policy    packed rows differ from rows alone by at most"):  # fmt: skip
        assert any(line.startswith(beginning) for line in lines), done.stdout
    assert lines[-1] == "OK"
    assert len(lines) <= 25


def test_differences_are_told_by_leaf(dry_run, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "data: {benchmarks: [{name: heldout, temperature: 0.5, source: {path: "
        '"bundled:heldout.jsonl", limit: 7}}]}\n'
        "entropy: {watched: {opener: [so, then]}}\n"
        "model: {objective: {off_policy: {shaping: {gamma: 0.2}}}}\n"
    )
    done = dry_run("fit", "--config", overlay)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    for expected in (
        "model.objective.off_policy.shaping.gamma: 0.2 (was 0.1)",
        "data.benchmarks[0].source.limit: 7 (was null)",
        "data.benchmarks[0].temperature: 0.5 (was 0.0)",
        "data.benchmarks[1].name: absent (was longer)",
        'entropy.watched.opener: ["so", "then"] (was ["so", "then", "now", "next"])',
    ):
        assert expected in lines, f"{expected!r} is not in\n{done.stdout}"
    # The defaults of a benchmark that is gone are more than a screen should show.
    assert any(line.startswith("and ") and "--print_config" in line for line in lines)


def test_a_base_alone_differs_in_nothing(dry_run):
    assert "differs   0 settings from conf/quickstart.yaml" in dry_run("fit").stdout


def test_the_estimate_is_for_the_lengths_that_were_read(dry_run, monkeypatch, tmp_path):
    data = Path(resolve("bundled:train.jsonl")).read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(data[:40]))
    asked = []

    def estimate(config, options, *, lengths):
        asked.append(lengths)
        return real(config, options, lengths=lengths)

    real = told.estimate
    monkeypatch.setattr(told, "estimate", estimate)
    done = dry_run("fit", "--data.train.path", tmp_path / "rows.jsonl", "--data.benchmarks", "[]")
    assert done.returncode == 0, done.stderr
    [lengths] = asked
    found = re.search(r"prompts of \d+ to (\d+) tokens.*traces of (\d+) to (\d+)", done.stdout)
    assert lengths.longest_prompt == int(found[1])
    assert 10 < lengths.mean_prompt < lengths.longest_prompt
    assert int(found[2]) < lengths.mean_trace < int(found[3])


def test_a_prompt_keeps_its_lines():
    lines = list(told.text_lines("Think.\n\nThen\tanswer.\n\rNow\x1b[2J"))
    bad = "\N{REPLACEMENT CHARACTER}"
    assert lines == ["| Think.", "| ", "| Then\tanswer.", f"| {bad}Now{bad}[2J"]


def test_a_long_text_has_a_gap():
    lines = list(told.text_lines("a" * 1000 + "\n" + "b" * 1000))
    assert lines == [f"| {'a' * 750}", "| [501 characters]", f"| {'b' * 750}"]


STOPS = {
    "a GPU that is not here": (
        ["--trainer.accelerator", "gpu", "--trainer.devices", "8"],
        2,
        ["trainer.accelerator", "no CUDA GPU"],
    ),
    "a strategy that there is not": (["--trainer.strategy", "ddpp"], 2, ["strategy", "ddpp"]),
    "nothing to compare": (
        ["--data.rollout.group_size", "1", "--data.rollout.expert_traces_per_group", "0"],
        2,
        ["data.rollout.group_size", "compares a response with no other"],
    ),
    "a folder that cannot be written": (
        ["--run_dir", "/proc/nothing/run"],
        8,
        ["cannot be written"],
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_would_stop_the_run_is_the_last_line(dry_run, name):
    args, code, words = STOPS[name]
    done = dry_run("fit", "--data.benchmarks", "[]", *args)
    [line] = done.stderr.splitlines()
    assert done.returncode == code
    assert all(word in line for word in words), line
    assert "OK" not in done.stdout.splitlines()


def test_everything_else_is_told_of_a_run_for_other_devices(dry_run):
    done = dry_run("fit", "--trainer.accelerator", "gpu", "--trainer.devices", "8")
    assert done.returncode == 2
    assert "a100-80g" in done.stdout
    assert "| <user>23+9-5-2-8=?<assistant><think>" in done.stdout


def test_a_folder_that_another_process_uses_stops_it(command_line, refuse, tmp_path):
    with alone(tmp_path / "run", "fit"):
        done = command_line("fit", *QUICKSTART, "--run_dir", tmp_path / "run")
    assert done.returncode == 8
    assert "is in use by another luffy-pl" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_would_go_on(command_line, refuse, tmp_path, monkeypatch):
    shutil.copytree(KEPT, tmp_path / "kept", symlinks=True)
    command_line("--help")
    monkeypatch.chdir(tmp_path / "kept")
    shutil.rmtree("luffy/checkpoints/phase-000004")
    before = sorted(Path("luffy").rglob("*"))
    resume = ["fit", "--resume", "--run_dir", "luffy", "--dry_run"]
    assert main(resume) == 0
    assert sorted(Path("luffy").rglob("*")) == before
    prompts = Path("prompts.jsonl").read_text().splitlines(keepends=True)
    Path("prompts.jsonl").write_text("".join(prompts[:-1]))
    assert main(resume) == 2


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


def test_a_model_whose_rows_reach_into_padding_is_refused(dry_run, tmp_path):
    model = tiny_folder(tmp_path, "cpmant")
    done = dry_run("fit", "--model.policy.path", model)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "family",
    ["xlnet", *(pytest.param(name, marks=pytest.mark.long) for name in ("prophetnet", "hy_v4"))],
)
def test_a_model_that_cannot_even_be_estimated_is_refused(dry_run, tmp_path, family):
    """Its own code raises in a forward pass without weights, and it is no decoder of ours."""
    done = dry_run("fit", "--model.policy.path", tiny_folder(tmp_path, family))
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("luffy-pl: error [4] model.policy.path: ")
    assert "a defect" not in done.stderr


@pytest.mark.parametrize("family", ["mamba", "falcon"])
def test_a_model_of_an_unusual_shape_is_told_as_any_other(dry_run, tmp_path, family):
    """Without keys and values, or with attention that nobody can choose."""
    done = dry_run("fit", "--model.policy.path", tiny_folder(tmp_path, family))
    assert done.returncode == 0, done.stderr
    assert "no estimate" not in done.stdout
    assert "padded rows differ from rows alone by at most" in done.stdout


def test_a_shape_that_cannot_be_read_is_no_defect(dry_run, tmp_path):
    """Sizes that differ by layer."""
    done = dry_run("fit", "--model.policy.path", tiny_folder(tmp_path, "gemma4_text"))
    assert done.returncode == 0, done.stderr
    assert "no estimate: model.policy.path: its configuration does not say" in done.stdout


@pytest.mark.parametrize("command", ["estimate", "fit"])
def test_what_a_forward_pass_raises_is_said_in_one_line(
    dry_run, command_line, tmp_path, monkeypatch, command
):
    def broken(self, *args, **kwargs):
        raise RuntimeError("no such head\nand more")

    model = tiny_folder(tmp_path, "gpt2")
    monkeypatch.setattr("transformers.GPT2Model.forward", broken)
    args = ("--model.policy.path", model)
    if command == "fit":
        done = dry_run("fit", *args)
    else:
        done = command_line("estimate", "--config", "conf/quickstart.yaml", *args)
    assert done.returncode == 4
    line = done.stderr.splitlines()[-1]
    what = "model.policy.path: its forward pass fails (RuntimeError: no such head)"
    assert line.startswith(f"luffy-pl: error [4] {what}, got 'GPT2LMHeadModel'. Fix: ")


def test_weights_of_another_machine_are_not_compared(dry_run, monkeypatch, tmp_path):
    assert "not in a folder" in weights_missing(tmp_path)
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    assert "may not fit" in weights_missing(Path(resolve("bundled:base")))
    done = dry_run("fit")
    assert done.returncode == 0, done.stderr
    assert "not compared with its model: 0 GiB may not fit into memory" in done.stdout


def test_an_evaluation_is_told_too(dry_run):
    done = dry_run("validate")
    assert done.returncode == 0, done.stderr
    assert "evaluates heldout 256 x 1, longer 128 x 1" in done.stdout
    assert "runs      validate of recipe luffy, of the untrained model" in done.stdout
    assert not re.search("passes over the data|^memory|^time", done.stdout, re.MULTILINE)
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


@pytest.mark.parametrize(("form", "named_by"), [("lines", "file"), ("array", "argument")])
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
