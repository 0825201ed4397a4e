"""Frozen models in a configuration: laid over each other, written out, refused in a line."""

import pytest

FILES = ["--config", "conf/quickstart.yaml", "--config", "conf/recipe/kl_in_loss.yaml"]
TEACHER = ["--model.objective.kl.model", "teacher"]
COPY = ["--model.frozen.teacher.weights", "copy"]
SERVER = [
    "--model.frozen.teacher", '{weights: server, url: "http://127.0.0.1:9", timeout_s: 1}',
    "--data.engine.kind", "hf",
]  # fmt: skip


def test_a_model_is_laid_over_field_by_field_and_composes_again(command_line, tmp_path):
    (tmp_path / "more.yaml").write_text("model: {frozen: {teacher: {every_n_phases: 3}}}\n")
    settings = [*FILES, *TEACHER, *COPY, "--config", tmp_path / "more.yaml"]
    shown = command_line("fit", *settings, "--print_config").stdout
    assert "    teacher:\n      weights: copy\n      every_n_phases: 3\n" in shown
    (tmp_path / "whole.yaml").write_text(shown)
    assert (
        command_line("fit", "--config", tmp_path / "whole.yaml", "--print_config").stdout == shown
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--model.objective.kl.model", "techer", *COPY],
         "model.objective.kl.model: is no model.frozen, got 'techer'. Fix: did you mean teacher?"),
        (COPY, "model.frozen.teacher: is used by nothing"),
        ([*TEACHER, *COPY, "--model.frozen.teacher.rate", "0.5"],
         "model.frozen.teacher.rate: has no effect with weights: copy"),
        ([*TEACHER, *COPY, "--model.frozen.teacher.every_n_phases", "x"],
         "model.frozen.teacher.every_n_phases"),
        ([*TEACHER, "--model.frozen.teacher.weihgts", "copy"], "model.frozen.teacher.weihgts"),
        ([*TEACHER, "--model.frozen", "{teacher: 5}"],
         "model.frozen.teacher: must be a section, got 5"),
        ([*TEACHER, *SERVER, "--data.rollout.temperature", "1.2"],
         "data.rollout.temperature: is not 1, at which the server of teacher scores tokens"),
        ([*TEACHER, *SERVER, "--model.objective.divergence", "{model: teacher}"],
         "model.objective.divergence.model: compares distributions over the vocabulary"),
        ([*TEACHER, *SERVER], "model.frozen.teacher.url: no answer from http://127.0.0.1:9"),
        ([*TEACHER, "--model.frozen", "{teacher: {weights: path, path: nowhere}}"],
         "model.frozen.teacher.path"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(command_line, tmp_path, settings, said):
    done = command_line("fit", *FILES, *settings, "--run_dir", tmp_path / "run")
    assert done.returncode in (2, 4, 5)
    assert said in done.stderr, done.stderr
    assert len(done.stderr.strip().split("\n")) <= 3
