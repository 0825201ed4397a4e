"""A recipe that remembers earlier phases goes on after a checkpoint as if it had not stopped."""

import shutil

import pytest
from same_run import differences

from luffy_pl.errors import EngineError
from luffy_pl.experience import collect
from recipes.small_runs import EXGRPO, SMALL, SOLVED_SOMETIMES

pytestmark = pytest.mark.recipes

FOUR_PHASES = [
    *SMALL, "--data.rollout.num_phases", "4", "--checkpoint.every_n_phases", "2",
]  # fmt: skip
TWO_PHASES = [
    *FOUR_PHASES, "--data.rollout.num_phases", "2", "--checkpoint.every_n_phases", "1",
    "--data.rollout.prompts_per_phase", "4", "--data.rollout.group_size", "4",
]  # fmt: skip
STATEFUL = {
    "exgrpo": EXGRPO,
    "relift": ["--data.rollout.imitation_buffer", "20"],
    "dapo": SOLVED_SOMETIMES,
    "sft_then_rl": ["--data.rollout.sft_phases", "3"],
    "adaptive_entropy": [],
    "kl_in_reward": SOLVED_SOMETIMES,
    "rlsd": [*SOLVED_SOMETIMES, "--model.frozen.teacher.every_n_phases", "2"],
    "sdft": [],
}
NEAR_ANOTHER = ("kl_in_reward", "sdft")
"""What they keep, a controller and a model that follows the policy, others here keep too."""


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=[pytest.mark.long] * (name in NEAR_ANOTHER)) for name in STATEFUL],
)
def test_the_second_half_is_the_same_after_a_resume(command_line, tmp_path, recipe):
    files = ["--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml"]

    def fit(run_dir, *more):
        finished = command_line(
            "fit", *files, *FOUR_PHASES, *STATEFUL[recipe], "--run_dir", run_dir, *more
        )
        assert finished.returncode == 0, finished.stderr

    fit(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    # As a crash in phase 3 leaves it.
    checkpoints = tmp_path / "cut" / "checkpoints"
    shutil.rmtree(checkpoints / "phase-000004")
    fit(tmp_path / "cut", "--resume", "true")
    assert differences(tmp_path / "whole", tmp_path / "cut") == []


def test_a_run_that_ends_in_a_second_round_goes_on_as_if_it_had_not(
    command_line, tmp_path, monkeypatch
):
    def fit(run_dir, *more):
        files = ["--config", "conf/quickstart.yaml", "--config", "conf/recipe/ghpo.yaml"]
        share = ["--data.rollout.guidance.share", "{levels: null, per_prompt: {start: 0.5}}"]
        return command_line("fit", *files, *TWO_PHASES, *share, "--run_dir", run_dir, *more)

    assert fit(tmp_path / "whole").returncode == 0
    sample = collect.sample_groups

    def fails_under_a_hint(specs, phase, *rest):
        groups = sample(specs, phase, *rest)
        if phase == 1 and any(spec.hint for spec in specs):
            raise EngineError("here", "ends", fix="go on")
        return groups

    with monkeypatch.context() as patch:
        patch.setattr(collect, "sample_groups", fails_under_a_hint)
        assert "here: ends" in fit(tmp_path / "cut").stderr
    assert fit(tmp_path / "cut", "--resume", "true").returncode == 0
    assert differences(tmp_path / "whole", tmp_path / "cut") == []
