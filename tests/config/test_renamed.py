"""An earlier name of a setting is read for one more version, and one line says the new one."""

import pytest

from luffy_pl.config.kinds import flat
from luffy_pl.errors import ConfigError
from luffy_pl.run.composition import compose

CLIP, GATE = "model.objective.on_policy.clip", "model.objective.on_policy.gate"
QUICKSTART = ["fit", "--config", "conf/quickstart.yaml"]


def gate(*words):
    """What is composed of the gate, by field."""
    config = flat(compose([*QUICKSTART, *words]))
    assert config[CLIP] is None
    return {key.removeprefix(GATE): value for key, value in config.items() if key.startswith(GATE)}


@pytest.fixture
def overlay(tmp_path):
    def write(text, name="mine"):
        (tmp_path / f"{name}.yaml").write_text(f"model: {{objective: {{on_policy: {text}}}}}")
        return "--config", str(tmp_path / f"{name}.yaml")

    return write


def test_clip_in_a_file_and_on_the_command_line(overlay):
    wanted = {".kind": "clip", ".low": 0.1, ".high": 0.3}
    assert gate(*overlay("{clip: [0.1, 0.3]}")) == wanted
    assert gate(f"--{CLIP}", "[0.1, 0.3]") == wanted
    assert gate(*overlay("{clip: [0.5, 0.5]}"), f"--{CLIP}=[0.1, 0.3]") == wanted


def test_the_later_source_wins_whichever_name_it_uses(overlay):
    soft = overlay("{gate: {kind: soft, positive: 2.0}}", "soft")
    assert gate(*soft, *overlay("{clip: null}")) == {"": None}
    assert gate(*overlay("{clip: [0.1, 0.3]}"), *soft)[".kind"] == "soft"
    on_policy = ("--config", "conf/recipe/on_policy.yaml")
    assert gate(*on_policy, *overlay("{clip: [0.1, 0.3]}"))[".high"] == 0.3


def test_one_line_says_the_new_name(command_line, tmp_path, overlay):
    done = command_line(
        *QUICKSTART, *overlay("{clip: [0.1, 0.3]}"), "--dry_run=true", f"--run_dir={tmp_path / 'r'}"
    )
    assert done.returncode == 0
    [line] = [line.strip() for line in done.stdout.splitlines() if CLIP in line]
    assert f'is now called {GATE}: {{"kind": "clip", "low": 0.1, "high": 0.3}}' in line


def test_what_a_run_writes_out_says_nothing(command_line, tmp_path, overlay):
    shown = command_line(*QUICKSTART, "--print_config").stdout
    (tmp_path / "whole.yaml").write_text(shown)
    again = command_line(
        "fit", "--config", tmp_path / "whole.yaml", "--dry_run=true", f"--run_dir={tmp_path / 'r'}"
    )
    assert again.returncode == 0
    assert CLIP not in again.stderr


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("{clip: 0.2}", CLIP, "must be a pair"),
        ("{clip: [0.2, -1]}", f"{GATE}.high", "must be at least 0"),
        ("{clip: [0.2, 0.2], gate: {kind: soft}}", CLIP, "sets both"),
        ("{gate: {kind: soft, low: 1}}", f"{GATE}.low", "has no effect with kind soft"),
        ("{ratio: sequence, shaping: {kind: log}}", "model.objective.on_policy.ratio", "of a row"),
    ],
)
def test_a_wrong_gate_is_one_line(overlay, text, where, words):
    with pytest.raises(ConfigError) as refused:
        compose([*QUICKSTART, *overlay(text)])
    assert refused.value.where == where
    assert words in str(refused.value)


def test_an_ablation_may_name_it():
    words = ["--ablation.name=clip", f"--ablation.leaf={CLIP}", "--ablation.value=[0.1, 0.3]"]
    config = flat(compose([*QUICKSTART, *words]))
    assert (config[f"{GATE}.low"], config[f"{GATE}.high"]) == (0.1, 0.3)
