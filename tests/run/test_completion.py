"""The completion script, as bash runs it."""

import subprocess

import pytest

from luffy_pl.cli import COMMANDS


@pytest.fixture
def completions(command_line, tmp_path):
    """What Tab offers after the words of a line."""
    script = tmp_path / "luffy-pl"
    done = command_line("completion")
    assert done.returncode == 0, done.stderr
    script.write_text(done.stdout)

    def complete(*words):
        line = " ".join(f"'{word}'" for word in ("luffy-pl", *words))
        code = (
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _luffy_pl; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        shown = subprocess.run(
            ["bash", "--norc", "-c", code], capture_output=True, text=True, check=True
        )
        return shown.stdout.split()

    return complete


def test_commands_and_settings(completions):
    assert set(completions("")) == set(COMMANDS)
    assert completions("val") == ["validate"]
    assert completions("fit", "--data.rollout.group") == ["--data.rollout.group_size"]
    assert "--config" in completions("validate", "--con")
    assert "--model.objective.off_policy.shaping.gamma" in completions(
        "fit", "--config", "a.yaml", "--model.objective.off_policy.shaping."
    )
    assert "--samples.token_values" in completions("test", "--samples.")


def test_what_is_no_setting_is_left_to_files(completions):
    assert completions("fit", "conf/q") == []
    assert completions("report", "--data") == []
