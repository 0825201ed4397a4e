"""Help: one screen at first, and every setting on demand."""

import pytest

from luffy_pl.commands.help import MOST_CHANGED, asked_help
from luffy_pl.commands.table import COMMANDS, is_run

RUNS = sorted(filter(is_run, COMMANDS))


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_of_a_run_is_one_screen(command_line, command, flag):
    done = command_line(command, flag)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("  --data.") for line in lines) == 5
    assert f"luffy-pl {command} --help-all" in done.stdout


def test_help_comes_before_what_else_is_on_the_line(command_line):
    for words in (["fit", "--config", "missing.yaml", "--help"], ["help", "fit"]):
        assert command_line(*words).stdout.startswith("luffy-pl fit: train")


@pytest.mark.parametrize(("words", "asked"), [
    (["--help"], ""),
    (["--config", "a.yaml", "-h"], ""),
    (["--help", "--dry_run"], ""),
    (["--help", "data.train"], "data.train"),
    (["--help=data.train"], "data.train"),
    (["--data.train.help"], "data.train"),
    (["--help-all"], "--help-all"),
    (["--config", "a.yaml"], None),
])  # fmt: skip
def test_which_help_is_asked_for(words, asked):
    assert asked_help(words) == asked


def test_the_settings_of_the_screen_exist_with_these_defaults():
    from luffy_pl.run.settings_table import sections

    real = {one.path: one.default for section in sections() for one in section.settings}
    assert [(name, real[name]) for name, _, _ in MOST_CHANGED] == [
        (name, default) for name, default, _ in MOST_CHANGED
    ]


def test_every_setting_has_a_description():
    from luffy_pl.run.settings_table import kinds, sections

    missing = [one.path for found in sections() for one in found.settings if not one.text]
    names = {one.kind for found in sections() for one in found.settings if one.kind}
    missing += [f"{kind}:{found.path}.{one.path}" for kind in names for found in kinds(kind)
                for one in found.settings if not one.text]  # fmt: skip
    assert missing == []


def test_help_of_everything_and_of_a_section(command_line):
    whole = command_line("fit", "--help-all").stdout
    for name in ("--data.train.path", "--data.benchmarks[].name", "--model.policy.lora.rank",
                 "--trainer.devices", "--checkpoint.every_n_phases", "--seed_everything",
                 "kind: p_div_p (gamma="):  # fmt: skip
        assert name in whole
    section = command_line("validate", "--help", "data.train")
    assert "--data.train.require_trace" in section.stdout
    assert "--data.rollout" not in section.stdout
    assert command_line("fit", "--data.train.help").stdout == section.stdout
    one = command_line("fit", "--help", "data.train.path").stdout.splitlines()
    assert one[0].startswith("  --data.train.path  (str")
    wrong = command_line("fit", "--help", "data.trian")
    assert wrong.returncode == 2
    assert "did you mean data.train?" in wrong.stderr
