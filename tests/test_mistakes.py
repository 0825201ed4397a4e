"""A mistake on the command line or in a configuration: what, where, and the fix, in one line."""

import json

import pytest

QUICKSTART = ("fit", "--config", "conf/quickstart.yaml", "--dry_run", "--run_dir", "RUN")
GAMMA = "model.objective.off_policy.shaping.gamma"


def setting(*words):
    """A dry run of the quickstart with something more on the line."""
    return (*QUICKSTART, *words)


def overlay(text):
    """A dry run of the quickstart with something more in a file."""
    return (*QUICKSTART, "--config", {"over.yaml": text})


# Arguments; a mapping is a file that is written, RUN a folder that nobody has made. Then the exit
# code, where the mistake is, and words of the line.
MISTAKES = {
    # -- commands
    "a command in other words": (["trian"], "command", "'trian'", "did you mean fit?"),
    "a typo of a command": (["validat"], "command", "did you mean validate?"),
    "a command of other programs": (["eval", "--config", "x"], "command", "did you mean validate?"),
    "no such command": (["zzz"], "command", "one of quickstart, init, fit"),
    "a configuration as the command": (
        ["conf/quickstart.yaml"],
        "command",
        "is missing",
        "fit --config conf/quickstart.yaml",
    ),
    "an option before the command": (
        ["--config", "conf/quickstart.yaml", "fit"],
        "--config",
        "before the command",
        "fit --config",
    ),
    "a typo of a verb": (["bench", "lerner"], "kind", "did you mean learner?"),
    "a typo of an option": (["view", "RUN", "--sever"], "--sever", "did you mean --serve?"),
    "an option cut short": (["status", "RUN", "--hel"], "--hel", "did you mean --help?"),
    "nothing to look at": (["view"], "luffy-pl view", "needs runs"),
    "a word where a number belongs": (["view", "RUN", "--port", "x"], "--port", "whole number"),
    "an option without its value": (["view", "RUN", "--port"], "--port", "has no value"),
    "a missing option": (["verify", "--pairs", "x"], "luffy-pl verify", "needs --out"),
    "a wrong choice": (["sweep", "g.yaml", "--launcher", "slurn"], "--launcher", "mean slurm?"),
    "a run in the place of a grid": (
        ["sweep", "conf/quickstart.yaml"],
        "conf/quickstart.yaml",
        "configuration of a run",
        "luffy-pl fit --config conf/quickstart.yaml",
    ),
    # -- files
    "a file without --config": (
        ["fit", "conf/quickstart.yaml"],
        "conf/quickstart.yaml",
        "--config conf/quickstart.yaml",
    ),
    "a second file without --config": (
        setting("conf/recipe/dapo.yaml"),
        "conf/recipe/dapo.yaml",
        "write --config before it",
    ),
    "a typo of a file": (
        ["fit", "--config", "conf/quikstart.yaml"],
        "--config",
        "did you mean conf/quickstart.yaml?",
    ),
    "a file of another folder": (
        ["fit", "--config", "conf/no_shaping.yaml"],
        "--config",
        "mean conf/ablation/no_shaping.yaml?",
    ),
    "a file of a folder that is not there": (
        ["fit", "--config", "elsewhere/gsm8k_smollm.yaml"],
        "--config",
        "mean conf/gsm8k_smollm2.yaml?",
    ),
    "a typo of a bundled file": (
        ["fit", "--config", "bundled:recipe/hptt"],
        "bundled:recipe/hptt",
        "mean bundled:recipe/hpt?",
    ),
    "a folder for a file": (["fit", "--config", "conf"], "--config", "is a folder"),
    "--config at the end": (["fit", "--config"], "--config", "has no value"),
    "no configuration": (
        ["fit", "--dry_run"],
        "--config",
        "is missing",
        "--config conf/quickstart.yaml",
    ),
    "an overlay alone": (
        ["fit", "--config", "conf/recipe/dapo.yaml"],
        "--config",
        "names no model",
        "--config conf/quickstart.yaml --config conf/recipe/dapo.yaml",
    ),
    "an overlay before its base": (
        ["fit", "--config", "conf/recipe/on_policy.yaml", "--config", "conf/quickstart.yaml"],
        "recipe",
        "put the base first",
    ),
    "two recipes": (
        setting("--config", "conf/recipe/hpt.yaml", "--config", "conf/recipe/chord_mu.yaml"),
        "recipe",
        "choose one recipe",
    ),
    "a tab": (overlay("model:\n\tpolicy: 1\n"), "over.yaml:2:1", "cannot start any token"),
    "a name twice": (
        overlay("data: {seed: 1}\nmodel: {}\ndata: {seed: 2}\n"),
        "over.yaml:3",
        "second time, got 'data'",
    ),
    "a file with a value": (overlay("5\n"), "over.yaml:1", "holds no settings"),
    "a file with a list": (overlay("- data\n- model\n"), "over.yaml:1", "holds no settings"),
    # -- names of settings
    "a typo of a setting": (
        setting("--data.rollout.group_sise", "4"),
        "data.rollout.group_sise",
        "mean data.rollout.group_size?",
    ),
    "a typo of a section": (
        setting("--data.rolout.num_phases", "4"),
        "data.rolout.num_phases",
        "data.rollout.num_phases?",
    ),
    "a typo in a section that may be null": (
        overlay("data: {train: {paht: x}}\n"),
        "data.train.paht",
        "did you mean data.train.path?",
    ),
    "a typo in an entry of a list": (
        setting("--data.benchmarks", "[{name: x, sourc: {path: y}}]"),
        "data.benchmarks.sourc",
        "did you mean data.benchmarks.source?",
    ),
    "a typo of a trainer's option": (
        setting("--trainer.device", "2"),
        "trainer.device",
        "trainer.devices?",
    ),
    "a setting without its section": (setting("--lr", "1e-5"), "lr", "mean model.optimizer.lr?"),
    "the same, with its value": (setting("--lr=1e-5"), "lr", "mean model.optimizer.lr?"),
    "the same, in a file": (
        overlay("learning_rate: 1e-5\n"),
        "learning_rate",
        "did you mean model.optimizer.lr?",
    ),
    "a name of other trainers": (
        setting("--num_generations", "4"),
        "num_generations",
        "mean data.rollout.group_size?",
    ),
    "capitals": (
        setting("--Data.Rollout.Num_Phases", "3"),
        "Data.Rollout.Num_Phases",
        "data.rollout.num_phases?",
    ),
    "a hyphen in a name": (
        setting("--cpu-threads", "1"),
        "cpu-threads",
        "did you mean cpu_threads?",
    ),
    "one hyphen": (
        setting("-data.rollout.num_phases", "3"),
        "-data.rollout.num_phases",
        "one hyphen",
    ),
    "a dash of a text processor": (
        setting("\N{EM DASH}resume"),
        "\N{EM DASH}resume",
        "two hyphens",
    ),
    "no hyphens": (setting("cpu_threads=2"), "cpu_threads=2", "Fix: --cpu_threads=2"),
    # -- values
    "two values": (setting("--cpu_threads", "3", "4"), "4", "belongs to no option"),
    "no value": (setting("--data.rollout.num_phases"), "data.rollout.num_phases", "has no value"),
    "a word for a number": (
        setting("--data.rollout.num_phases", "many"),
        "data.rollout.num_phases",
        "must be int, got 'many'",
        "write a whole number",
    ),
    "a fraction for a whole number": (
        setting("--data.rollout.num_phases", "1.5"),
        "data.rollout.num_phases",
        "write a whole number",
    ),
    "a list for a number": (
        setting("--data.rollout.num_phases", "[1, 2]"),
        "data.rollout.num_phases",
        "write a whole number",
    ),
    "a number with a letter": (
        setting("--model.optimizer.lr", "1e-6x"),
        "model.optimizer.lr",
        "write a number",
    ),
    "no switch": (
        setting("--model.policy.compile", "maybe"),
        "model.policy.compile",
        "true or false",
    ),
    "no switch of the command": (setting("--resume", "maybe"), "resume", "write true or false"),
    "a word for a list": (
        setting("--loggers", "wandb"),
        "loggers",
        "must be a list",
        "write [wandb]",
    ),
    "nothing for a list": (setting("--data.benchmarks", "null"), "data.benchmarks", "write []"),
    "a negative number": (
        setting("--data.rollout.group_size", "-3"),
        "data.rollout.group_size",
        "at least 1",
        "got -3",
    ),
    "a bound of a kind": (setting(f"--{GAMMA}", "-0.1"), GAMMA, "must be above 0", "got -0.1"),
    "a number for a section": (
        setting("--data.rollout", "5"),
        "data.rollout",
        "is a section",
        "data.rollout.num_phases",
    ),
    "the same in a file": (
        overlay("data: {rollout: 5}\n"),
        "data.rollout",
        "is a section",
        "got 5",
    ),
    "a section without its settings": (
        overlay("data: {rollout: }\n"),
        "data.rollout",
        "is a section",
        "got 'null'",
    ),
    "no model section": (overlay("model:\n"), "model", "is a section", "model.policy"),
    "a name for a section": (
        setting("--model.objective", "grpo"),
        "model.objective",
        "is a section",
        "got 'grpo'",
    ),
    "a kind for its section": (
        setting("--model.objective.off_policy.shaping", "p_div_p"),
        "model.objective.off_policy.shaping",
        "{kind: p_div_p}",
    ),
    "a typo of an engine": (setting("--data.engine.kind", "vlm"), "data.engine.kind", "mean vllm?"),
    "a typo of a reward": (
        setting("--data.reward.terms", "{corect: 1}"),
        "data.reward.terms",
        "did you mean correct?",
    ),
    "a typo of a strategy": (
        setting("--trainer.strategy", "ddpp"),
        "trainer.strategy",
        "use auto, ddp",
    ),
    "a typo of an accelerator": (
        setting("--trainer.accelerator", "gpuu"),
        "trainer.accelerator",
        "use one of auto, cpu, gpu",
    ),
    "a precision that there is not": (
        setting("--trainer.precision", "fp16"),
        "trainer.precision",
        "must be one of",
        "bf16-mixed",
    ),
    "a trainer's option that decides nothing": (
        setting("--trainer.max_epochs", "3"),
        "trainer.max_epochs",
        "set data.rollout.num_phases",
    ),
    "another optimizer": (
        setting("--optimizer", "torch.optim.SGD"),
        "optimizer",
        "cannot be exchanged",
        "model.optimizer",
    ),
    "devices in words": (
        setting("--trainer.devices", "two"),
        "trainer.devices",
        "a number of processes",
    ),
    "a folder without a name": (setting("--run_dir", ""), "run_dir", "is no local folder"),
    "both ways to use a folder": (
        setting("--resume", "--overwrite", "--run_dir", "conf"),
        "overwrite",
        "contradicts --resume",
    ),
    "a folder for a checkpoint": (
        setting("--ckpt_path", "conf"),
        "ckpt_path",
        "is a folder without a checkpoint",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_where_and_the_fix(command_line, tmp_path, name):
    args, where, *words = MISTAKES[name]
    done = command_line(*(as_word(arg, tmp_path) for arg in args))
    [line] = [line for line in done.stderr.splitlines() if line.startswith("luffy-pl: error")]
    assert done.returncode == 2, line
    assert "Traceback" not in done.stderr
    told, _, rest = line.removeprefix("luffy-pl: error [2] ").partition(": ")
    assert told.removeprefix(f"{tmp_path}/") == where, line
    assert "Fix: " in rest
    for word in words:
        assert word in rest, line
    assert not (tmp_path / "run").exists()


def as_word(arg, tmp_path):
    """A word of a command line; a file is written first."""
    if isinstance(arg, dict):
        [(name, text)] = arg.items()
        (tmp_path / name).write_text(text)
        return tmp_path / name
    return tmp_path / "run" if arg == "RUN" else arg


def test_every_name_of_other_trainers_leads_to_a_setting():
    from luffy_pl.config.other_names import OTHER_NAMES
    from luffy_pl.run.settings_table import setting_names

    assert set(OTHER_NAMES.values()) <= {*setting_names(), "data.benchmarks"}


@pytest.mark.parametrize("words", [[], ["true"], ["false"]])
def test_a_switch_is_written_alike_in_a_run_and_in_a_sweep(command_line, tmp_path, words):
    grid = {"name": "small", "run_dir": str(tmp_path / "cells"), "base": ["conf/quickstart.yaml"],
            "axes": {"method": {"luffy": {}}}, "seeds": [0]}  # fmt: skip
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    if words != ["false"]:
        done = command_line("sweep", "--dry_run", *words, tmp_path / "grid.yaml")
        assert (done.returncode, done.stderr) == (0, "")
    done = command_line("fit", "--config", "conf/quickstart.yaml", "--print_config",
                        "--model.policy.compile", *words, "--dry_run", *words)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"compile: {str(words != ['false']).lower()}" in done.stdout
